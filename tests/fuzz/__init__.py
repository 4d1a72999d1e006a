"""Coverage-guided, differential fuzzing: any bytes are a scenario, which both implementations play.

python tests/fuzz/run.py --seconds 60          # needs the extra `fuzz`

`pytest` plays only the kept scenarios (tests/test_fuzz_corpus.py).
"""
