"""`make mutants` is not run with the suite; that its mutations fit to the scripts as they are now is."""

from pathlib import Path

import pytest
from tests.mutants.mutations import MUTATIONS, Mutation, script_in

import turnstream

PACKAGE = Path(turnstream.__file__).parent


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mutation_fits_to_its_script(mutation: Mutation) -> None:
    source = script_in(PACKAGE, mutation.script).read_text()
    assert mutation.applied_to(source) != source


def test_one_that_does_not_fit_is_reported() -> None:
    mutation = Mutation("take", "owner", "if owner")
    with pytest.raises(LookupError, match=r"take\.lua: owner: expected the text once, found it 2 times"):
        mutation.applied_to("if owner then if owner")
    with pytest.raises(LookupError, match="found it 0 times"):
        mutation.applied_to("")


def test_every_refusal_of_a_commit_is_mutated() -> None:
    """A check that is new has a mutation, too."""
    source = script_in(PACKAGE, "commit").read_text()
    refusals = source.count("return refuse(") + source.count("return redis.error_reply('COLLISION")
    texts = [mutation.text for mutation in MUTATIONS if mutation.script == "commit"]
    assert sum("refuse(" in text or "COLLISION" in text for text in texts) == refusals
