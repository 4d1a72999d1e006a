# The SHA-1 under the native authenticator, shown to Python so that tests can hold each variant against hashlib.
# Included by auth.pyx: the choice of variant belongs to that module, and no other one hashes.


def sha1_variants() -> tuple[str, ...]:
    """The SHA-1 variants that work on this CPU, fastest first: "avx512", "sha-ni", "avx2", "armv8", "portable"."""
    return tuple([carp_sha1_variant(index).decode("ascii") for index in range(carp_sha1_count())])


def sha1_variant() -> str:
    """The variant that signs and verifies now."""
    return carp_sha1_current().decode("ascii")


def sha1_select(variant: str) -> None:
    """Sign and verify by `variant` from now on; "auto" is the fastest. ValueError: this machine has no such variant."""
    if carp_sha1_select(variant.encode()) != 0:
        raise ValueError(f"no SHA-1 variant {variant!r} here; there are: {', '.join(sha1_variants())}")


def sha1(data: bytes, variant: str | None = None) -> bytes:
    """The 20-byte SHA-1 of `data` by `variant`, or by the one in use. ValueError: this machine has no such variant."""
    cdef bytes name = (sha1_variant() if variant is None else variant).encode()
    cdef bytes message = octets(data)
    cdef uint8_t[CARP_SHA1_DIGEST] digest
    if carp_sha1_digest(name, message, len(message), digest) != 0:
        raise ValueError(f"no SHA-1 variant {variant!r} here; there are: {', '.join(sha1_variants())}")
    return digest[:CARP_SHA1_DIGEST]


def _obey_environment() -> None:
    """``PYCARP_SHA1`` names the variant to use; what is asked for and missing is an error, never a silent fallback."""
    asked = os.environ.get("PYCARP_SHA1", "")
    if asked and carp_sha1_select(asked.encode()) != 0:
        raise ImplementationError(
            f"PYCARP_SHA1={asked!r} names no SHA-1 variant of this machine: give auto, {' or '.join(sha1_variants())}"
        )


_obey_environment()
