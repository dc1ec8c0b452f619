"""Profile `real` gives what the REAL program gives, on its own sets and on synthetic ones.

The big sets (a minute of computing together) run with MSNET_BIG_SETS=1.
"""

import os

import pytest
from assoc_peers import SETS, peer_set

SMALL = ("real_syn_layer", "real_syn_homo", "regional")


@pytest.mark.parametrize("name", SETS)
def test_origins_and_picks_are_those_of_the_program(shared_assoc, name):
    if name not in SMALL and os.environ.get("MSNET_BIG_SETS") != "1":
        pytest.skip("a big set: set MSNET_BIG_SETS=1")
    peer = peer_set(shared_assoc, name)
    origins, picks, number = peer.agreement()
    assert origins >= 0.98
    assert picks >= 0.995
    assert abs(number / len(peer.catalogue) - 1) < 0.01
