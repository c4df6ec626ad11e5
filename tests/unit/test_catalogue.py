"""The catalogue: which source answers for which model, what a call costs, and how a wrong file is reported."""

import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.builders import AT

from turnstream.catalogue import (
    ModelCatalogue,
    calculate_cost,
    context_window_size,
    default_catalogue,
)
from turnstream.catalogue.table_file import ModelEntry
from turnstream.domain.prices import Catalogue, Price, PriceSource, TokenUsage
from turnstream.errors import ConfigurationError

UNKNOWN = Price(0.0, PriceSource.UNKNOWN)

CALL = TokenUsage(prompt_tokens=1_000, completion_tokens=500)
CACHED_CALL = TokenUsage(prompt_tokens=1_000_000, cache_read_tokens=600_000, cache_write_tokens=300_000)
MORE_CACHED_THAN_SENT = TokenUsage(prompt_tokens=1_000, cache_read_tokens=2_000)


def price(usage: TokenUsage, model: str, provider: str | None = None, at: datetime = AT) -> Price:
    return default_catalogue().price(usage, model, provider, at)


# ── context windows ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("model", "window"),
    [
        ("gpt-4", 8_192),
        ("gpt-4-32k", 128_000),
        ("gpt-4-turbo", 128_000),
        ("gpt-3.5-turbo", 4_096),
        ("gpt-3.5-turbo-16k", 16_384),
        ("claude-3-opus", 200_000),
        ("claude-3-sonnet", 180_000),
        ("claude-3-haiku", 150_000),
        ("claude-2", 100_000),
        ("claude-instant", 100_000),
        ("gemini-1.5-pro", 1_000_000),
        ("gemini-1.0-pro", 32_768),
        ("llama", 4_096),
        ("unknown-model", 4_096),
    ],
)
def test_the_names_of_the_spec_have_its_windows(model: str, window: int) -> None:
    assert context_window_size(model) == window


@pytest.mark.parametrize(
    ("model", "window"),
    [
        ("gpt-4o", 128_000),
        ("gpt-4-0613", 8_192),
        ("gpt-4-1106-preview", 128_000),
        ("claude-3-opus-20240229", 200_000),
        ("claude-2.1", 200_000),
    ],
)
def test_other_models_and_dated_ids_have_the_windows_of_genai_prices(model: str, window: int) -> None:
    assert context_window_size(model) == window


@pytest.mark.parametrize(
    ("model", "window"),
    [("gemini-2.5-pro", 1_048_576), ("gemini-3-pro-preview", 1_048_576), ("command-r7b-12-2024", 128_000)],
)
def test_windows_that_genai_prices_lacks_are_ours(model: str, window: int) -> None:
    assert context_window_size(model) == window


@pytest.mark.parametrize(
    ("model", "window"),
    [
        ("gpt-4-foo", 8_192),
        ("gpt-4-turbo-foo", 128_000),
        ("gpt-3.5-foo", 4_096),
        ("gpt-3.5-turbo-16k-foo", 16_384),
        ("claude-instant-1.2", 100_000),
        ("gemini-1.0-pro-001", 32_768),
        ("openai/gpt-4-foo", 8_192),
    ],
)
def test_an_unlisted_model_belongs_to_the_family_with_the_longest_prefix(model: str, window: int) -> None:
    assert context_window_size(model) == window


@pytest.mark.parametrize("model", ["gpt-4o-foo", "gpt-45", "my-gpt-4", "", "/", "gpt-4/", " "])
def test_a_family_ends_at_a_hyphen_and_begins_the_name(model: str) -> None:
    assert context_window_size(model) == 4_096
    assert price(CALL, model) == UNKNOWN


def test_our_windows_keep_members_of_a_family_apart() -> None:
    assert context_window_size("command-a-03-2025") == 256_000
    assert context_window_size("command-a-vision-07-2025") == 128_000


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("GPT-4", None),
        (" gpt-4 ", "OpenAI"),
        ("openai/gpt-4", None),
        ("openrouter/OpenAI/gpt-4", None),
        ("gpt-4", "my-gateway"),
    ],
)
def test_case_blanks_prefix_and_provider_do_not_hide_a_model(model: str, provider: str | None) -> None:
    assert context_window_size(model, provider) == 8_192
    assert price(CALL, model, provider) == Price(0.06, PriceSource.SPEC)


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("gpt-4o", "openai"),
        ("gpt-4o", "my-gateway"),
        ("gpt-4o", ""),
        ("openai/gpt-4o", None),
        ("openai/gpt-4o", "openai"),
        ("my-gateway/openai/gpt-4o", None),
    ],
)
def test_genai_prices_is_asked_with_and_without_the_provider(model: str, provider: str | None) -> None:
    assert context_window_size(model, provider) == 128_000
    assert price(CALL, model, provider) == Price(0.0075, PriceSource.CATALOGUE)


def test_the_provider_decides_among_several_that_run_one_model() -> None:
    alone = price(CALL, "llama-3.3-70b-versatile")
    on_groq = price(CALL, "llama-3.3-70b-versatile", "groq")
    assert alone == UNKNOWN
    assert on_groq.source is PriceSource.CATALOGUE
    assert price(CALL, "groq/llama-3.3-70b-versatile") == on_groq


def test_a_long_name_is_a_name() -> None:
    assert context_window_size("gpt-4-" + "x" * 1_000_000) == 8_192


# ── prices ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("model", "prompt", "completion"),
    [
        ("gpt-4-turbo", 0.01, 0.03),
        ("gpt-4", 0.03, 0.06),
        ("gpt-4-32k", 0.03, 0.06),
        ("gpt-3.5-turbo", 0.001, 0.002),
        ("gpt-3.5-turbo-16k", 0.001, 0.002),
        ("claude-3-opus", 0.015, 0.075),
        ("claude-3-sonnet", 0.003, 0.015),
        ("claude-3-haiku", 0.00025, 0.00125),
        ("gpt-4-foo", 0.03, 0.06),
        ("gpt-4-turbo-foo", 0.01, 0.03),
    ],
)
def test_the_names_and_families_of_the_spec_have_its_prices(model: str, prompt: float, completion: float) -> None:
    usage = TokenUsage(prompt_tokens=12_345, completion_tokens=678)
    found = price(usage, model)
    assert found.source is PriceSource.SPEC
    assert found.cost == pytest.approx(12.345 * prompt + 0.678 * completion, rel=1e-12)


def test_calculate_cost_is_the_price_of_now_in_usd() -> None:
    assert calculate_cost(1_000, 500, "gpt-4") == 0.06
    assert calculate_cost(1_000, 500, "gpt-4o", "openai") == 0.0075
    assert calculate_cost(1_000, 500, "unknown-model") == 0
    assert calculate_cost(0, 0, "gpt-4") == 0


def test_an_unknown_model_is_not_a_free_one() -> None:
    catalogue = ModelCatalogue({"our-own": ModelEntry(prompt=0, completion=0)})
    assert catalogue.price(CALL, "our-own", None, AT) == Price(0.0, PriceSource.OVERRIDE)
    assert catalogue.price(CALL, "unknown-model", None, AT) == UNKNOWN


def test_a_model_priced_by_something_else_than_tokens_is_unknown() -> None:
    assert price(CALL, "whisper-1", "openai") == UNKNOWN


def test_prices_are_those_of_the_time_of_the_call() -> None:
    before = price(CALL, "o3", "openai", datetime(2025, 6, 1, tzinfo=UTC))
    after = price(CALL, "o3", "openai", datetime(2025, 7, 1, tzinfo=UTC))
    assert (before.cost, after.cost) == (0.03, 0.006)


def test_a_long_prompt_pays_its_tier() -> None:
    short, long = TokenUsage(prompt_tokens=200_000), TokenUsage(prompt_tokens=200_001)
    assert price(short, "gemini-2.5-pro").cost == 0.25
    assert price(long, "gemini-2.5-pro").cost == 0.5000025


def test_a_fee_by_the_request_needs_a_request() -> None:
    assert price(CALL, "sonar", "perplexity").cost > 0.005
    assert price(TokenUsage(), "sonar", "perplexity") == Price(0.0, PriceSource.CATALOGUE)


# ── cached tokens ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_cached_tokens_have_the_rates_of_genai_prices() -> None:
    for model in ("claude-3-5-sonnet-20241022", "claude-3-sonnet"):
        found = price(CACHED_CALL, model)
        assert found.source is PriceSource.CATALOGUE
        # USD per 1M tokens: 3 for the fresh tenth, 0.3 for tokens read, 3.75 for tokens written.
        assert found.cost == pytest.approx(0.1 * 3 + 0.6 * 0.3 + 0.3 * 3.75)


def test_cached_tokens_cost_as_much_as_prompt_tokens_without_a_rate_of_their_own() -> None:
    assert price(CACHED_CALL, "gpt-4-foo") == Price(30.0, PriceSource.SPEC)
    assert price(CACHED_CALL, "gpt-4", "openai") == Price(30.0, PriceSource.CATALOGUE)


def test_more_cached_tokens_than_the_prompt_has_are_no_error() -> None:
    assert price(MORE_CACHED_THAN_SENT, "claude-3-opus") == Price(0.03, PriceSource.SPEC)
    assert price(MORE_CACHED_THAN_SENT, "gpt-4o") == UNKNOWN


def test_an_override_may_have_rates_for_cached_tokens() -> None:
    catalogue = ModelCatalogue(
        {
            "plain": ModelEntry(prompt=10, completion=20),
            "read": ModelEntry(prompt=10, completion=20, cache_read=1),
            "both": ModelEntry(prompt=10, completion=20, cache_read=1, cache_write=12),
            "free": ModelEntry(prompt=10, completion=20, cache_read=0),
        }
    )
    costs = {name: catalogue.price(CACHED_CALL, name, None, AT).cost for name in ("plain", "read", "both", "free")}
    assert costs == pytest.approx({"plain": 10, "read": 1 + 0.6 + 3, "both": 1 + 0.6 + 3.6, "free": 1 + 3})


# ── the operator's overrides ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "models.toml"


def test_an_override_comes_before_every_other_source(file: Path) -> None:
    file.write_text(
        """
        [models."GPT-4"]
        window = 16_000
        prompt = 1
        completion = 2.5

        [models]
        "gpt-4o" = { window = 64_000 }
        "unknown-model" = { prompt = 0.5, completion = 0.5 }
        """
    )
    catalogue: Catalogue = ModelCatalogue.from_file(file)
    assert catalogue.context_window("gpt-4", None) == 16_000
    assert catalogue.price(CALL, "gpt-4", "openai", AT) == Price(0.00225, PriceSource.OVERRIDE)
    assert catalogue.context_window("openai/gpt-4o", None) == 64_000
    assert catalogue.price(CALL, "gpt-4o", None, AT) == Price(0.0075, PriceSource.CATALOGUE)
    assert catalogue.context_window("unknown-model", None) == 4_096
    assert catalogue.price(CALL, "unknown-model", None, AT) == Price(0.00075, PriceSource.OVERRIDE)
    assert catalogue.context_window("gpt-4-foo", None) == 8_192, "an override is of one name, not of a family"
    assert context_window_size("gpt-4") == 8_192, "the default catalogue has no overrides"


def test_an_override_may_be_for_one_provider(file: Path) -> None:
    file.write_text('[models]\n"my-gateway/gpt-4" = { window = 1_000 }\n"gpt-4" = { prompt = 1, completion = 1 }')
    catalogue = ModelCatalogue.from_file(str(file))
    assert catalogue.context_window("gpt-4", "My-Gateway") == 1_000
    assert catalogue.context_window("gpt-4", "openai") == 8_192
    assert catalogue.price(CALL, "gpt-4", "my-gateway", AT) == Price(0.0015, PriceSource.OVERRIDE)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("", 'models: Field required: write each entry as [models."name"] with its fields below'),
        ("models = 3", 'models: Input should be a valid dictionary: write each entry as [models."name"]'),
        ("[models]\nm = 5", "with its fields below"),
        ('[models."a b"]\nwindow = 0', 'models."a b".window: Input should be greater than 0: correct or remove it'),
        (
            '[models.m]\nwindow = "8k"',
            "models.m.window: Input should be a valid integer: correct or remove it (it is '8k')",
        ),
        ("[models.m]\nwindow = 8.5", "models.m.window: Input should be a valid integer"),
        ("[models.m]\nwindow = true", "models.m.window: Input should be a valid integer"),
        ("[models.m]\nprompt = -1\ncompletion = 1", "models.m.prompt: Input should be greater than or equal to 0"),
        ("[models.m]\nprompt = 1\ncompletion = nan", "models.m.completion: Input should be a finite number"),
        ("[models.m]\nprompt = 1", "models.m: a price needs both prompt and completion; write 0"),
        ("[models.m]\ncompletion = 1", "models.m: a price needs both prompt and completion; write 0"),
        ("[models.m]\ncache_read = 1", "models.m: a price needs both prompt and completion; write 0"),
        ("[models.m]\nprice = 1", "models.m.price: Extra inputs are not permitted: an entry has only window, prompt"),
        ("[models.gpt-3.5]\nwindow = 1", "its name in quotes if it has a dot"),
        ("[m]\nwindow = 1\n[models]", "m: Extra inputs are not permitted"),
        ("[models.M]\nwindow = 1\n[models.m]\nwindow = 2", "models: m listed twice, in different case; keep one"),
        ("[models.m", "is not a TOML file: Expected ']' at the end of a table declaration"),
    ],
)
def test_a_wrong_file_is_refused_with_the_entry_and_the_way_out(file: Path, content: str, says: str) -> None:
    file.write_text(content)
    with pytest.raises(ConfigurationError) as caught:
        ModelCatalogue.from_file(file)
    assert says in str(caught.value)
    assert str(file) in str(caught.value)


def test_every_wrong_entry_is_named_at_once(file: Path) -> None:
    file.write_text("[models.a]\nwindow = 0\n[models.b]\nwindow = 0\n[models.c]\nwindow = 1")
    with pytest.raises(ConfigurationError, match=r"models\.a\.window: .*models\.b\.window: "):
        ModelCatalogue.from_file(file)


def test_a_file_that_cannot_be_read_is_refused(file: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be read .*: check the path"):
        ModelCatalogue.from_file(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigurationError, match="is not a TOML file"):
        ModelCatalogue.from_file(file)


# ── genai-prices ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_genai_prices_is_imported_for_the_first_model_that_needs_it() -> None:
    program = """
import sys
from turnstream.catalogue import calculate_cost, context_window_size
assert "genai_prices" not in sys.modules, "importing the catalogue"
assert context_window_size("gpt-4") == 8192 and calculate_cost(1000, 0, "gpt-4") == 0.03
assert "genai_prices" not in sys.modules, "a name of the contract"
assert context_window_size("gpt-4o") == 128000
assert "genai_prices" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("at", [datetime(2024, 1, 1, tzinfo=UTC), datetime(2026, 11, 1, 3, 30, tzinfo=UTC)])
@pytest.mark.parametrize(
    "usage",
    [
        TokenUsage(prompt_tokens=1, completion_tokens=1),
        TokenUsage(prompt_tokens=90_001, completion_tokens=5_003, cache_read_tokens=40_007, cache_write_tokens=9_001),
        TokenUsage(prompt_tokens=900_001, completion_tokens=64_000, cache_read_tokens=900_000),
    ],
)
def test_our_sum_is_that_of_genai_prices_for_every_model(usage: TokenUsage, at: datetime) -> None:
    from genai_prices import Usage  # noqa: PLC0415 - slow to import: only this test pays
    from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415

    from turnstream.catalogue.genai import cost_at  # noqa: PLC0415

    theirs = Usage(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_write_tokens,
    )
    priced = [(provider, model) for provider in get_snapshot().providers for model in provider.models if model.prices]
    different = [
        f"{provider.id}/{model.id}"
        for provider, model in priced
        if cost_at(model.get_prices(at), usage)
        != float(model.calc_price(theirs, provider, genai_request_timestamp=at).total_price)
    ]
    assert len(priced) > 1_000
    assert different == []
