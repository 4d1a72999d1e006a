"""The configurations of examples/ are what they are for, and their README names them all."""

from __future__ import annotations

import copy
import shutil
import subprocess

import pytest
from support.pages import ROOT

from pycarp.ifconfig import parse_words

yaml = pytest.importorskip("yaml")
compose_spec = pytest.importorskip("compose_spec")
kubernetes_validate = pytest.importorskip("kubernetes_validate")
EXAMPLES = ROOT / "examples"


def test_the_compose_file() -> None:
    """Keys of the Compose specification, and what an engine needs."""
    compose = yaml.safe_load((EXAMPLES / "containers" / "compose.yaml").read_text())
    assert set(compose) <= {"name", "services", "networks", "volumes", "configs", "secrets"}
    known = {
        "image",
        "network_mode",
        "restart",
        "volumes",
        "cap_drop",
        "cap_add",
        "stop_grace_period",
        "secrets",
        "command",
    }
    for service in compose["services"].values():
        assert set(service) <= known and service["network_mode"] == "host"
        assert set(service.get("secrets", ())) <= set(compose["secrets"])
    carp = compose["services"]["carp"]
    assert carp["cap_add"] == ["NET_ADMIN", "NET_RAW"] and all(isinstance(word, str) for word in carp["command"])
    assert_words(carp["command"], "/run/secrets/carp")
    # A parser of the specification: it knows every key, and what refers to what.
    text = (EXAMPLES / "containers" / "compose.yaml").read_text()
    parsed = compose_spec.PyCompose.from_yaml(text)
    parsed.validate()
    assert set(parsed.services) == set(compose["services"])
    for wrong in (text.replace("network_mode:", "network_modes:"), text.replace("secrets: [carp]", "secrets: [other]")):
        with pytest.raises(Exception, match=r"network_modes|other"):
            compose_spec.PyCompose.from_yaml(wrong).validate()
    if shutil.which("docker") and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        config = ["docker", "compose", "-f", EXAMPLES / "containers" / "compose.yaml", "config", "--quiet"]
        assert subprocess.run(config, capture_output=True).returncode == 0


def assert_words(command: list[str], passfile: str) -> None:
    """`pycarp up` understands them: the words of the configuration, without the secret's file, which is not here."""
    assert command[:2] == ["pycarp", "up"] and passfile in command
    words = " ".join(command[3:]).replace(f"passfile {passfile}", "pass s").split()
    parsed = parse_words(words, name=command[2])
    assert parsed.host is not None and parsed.host.vhid == 53, parsed.errors


def test_the_manifest_for_kubernetes() -> None:
    """The fields that apps/v1 DaemonSet and v1 Secret have, and what they require of each other."""
    secret, daemons = yaml.safe_load_all((EXAMPLES / "containers" / "daemonset.yaml").read_text())
    for manifest in (secret, daemons):
        kubernetes_validate.validate(manifest, "1.30", strict=True)
    misspelt = copy.deepcopy(daemons)
    misspelt["spec"]["template"]["spec"]["hostNetworks"] = True
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(misspelt, "1.30", strict=True)
    assert (secret["apiVersion"], secret["kind"], daemons["apiVersion"], daemons["kind"]) == (
        "v1",
        "Secret",
        "apps/v1",
        "DaemonSet",
    )
    spec, pod = daemons["spec"], daemons["spec"]["template"]["spec"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
    assert pod["hostNetwork"] is True and pod["dnsPolicy"] == "ClusterFirstWithHostNet"
    (container,) = pod["containers"]
    fields = {"name", "image", "command", "securityContext", "volumeMounts", "resources"}
    assert set(container) == fields and all(isinstance(word, str) for word in container["command"])
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert all(mount["name"] in volumes for mount in container["volumeMounts"])
    assert volumes["carp"]["secret"] == {"secretName": secret["metadata"]["name"], "defaultMode": 0o400}
    assert all(isinstance(value, str) for value in pod["nodeSelector"].values())
    assert_words(container["command"], "/run/carp/passphrase")


def test_every_example_is_in_the_readme() -> None:
    text = (EXAMPLES / "README.md").read_text("utf-8")
    for path in EXAMPLES.rglob("*"):
        if path.is_file() and path.name != "README.md" and "__pycache__" not in path.parts:
            relative = path.relative_to(EXAMPLES)
            assert any(f"]({one})" in text for one in (relative, *relative.parents)) or any(
                f"]({sibling.relative_to(EXAMPLES)})" in text for sibling in path.parent.iterdir()
            ), relative
