"""The constructions that the check looks for, each with the reason and what to write instead.

A pattern is a regular expression without regard to case, in which a space stands for any white space. A hit inside
a match of `allowed` is not counted: that is how "behind a proxy" passes.
"""

import re
from typing import Final, NamedTuple

MAX_FIRST_SENTENCE_WORDS: Final = 25

_START = r"(?:\A\s*|[.;:!?¶][\"')]*\s+)"  # the beginning of a clause; ¶ separates paragraphs, cells and list items
_NO_QUESTION = r"(?![^.;!¶]*\?)"
_PLACE = (
    r"(?:places?|positions?|points?|spots?|locations?|lines?|files?|folders?|director(?:y|ies)|machines?|hosts?"
    r"|servers?|environments?|systems?|platforms?|tables?|sections?|pages?|cases?|situations?|scenarios?|states?|modes?"
    r"|fields?|lists?|ranges?|moments?|somewhere|everywhere|anywhere|know|knows|see|from|about|to|on|of|is|check)"
)


class Rule(NamedTuple):
    """A construction to avoid."""

    name: str
    pattern: re.Pattern[str]
    reason: str
    allowed: re.Pattern[str] | None = None


def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern.replace(" ", r"\s+"), re.IGNORECASE)


def _rule(name: str, pattern: str, reason: str, allowed: str = "") -> Rule:
    return Rule(name, _compiled(pattern), reason, _compiled(allowed) if allowed else None)


_CONDITIONS: Final = (
    _rule(
        "where (condition), first in a sentence",
        rf"{_START}where (?!(?:to|is|are|was|does|do|applicable|appropriate|possible|needed|necessary)\b)"
        rf"{_NO_QUESTION}(?=[^.;!?¶]*,)",
        "`where` is for places: write `if` or `when`",
    ),
    _rule(
        "where (condition), after a conjunction",
        r"\b(?:also|even|only|but|unless|than|and|or|not) where\b",
        "`where` is for places: write `if` or `when`",
        rf"\b(?:when|how|what|why|who|which|{_PLACE})(?: \w+)? (?:and|or|but|not|than|only) where\b|\bnot where to\b",
    ),
    _rule(
        "where (condition), of something missing",
        r"\bwhere (?:there (?:is|are|was|were)|(?-i:none)|nothing|no|neither|nobody|another|something|several)\b",
        "`where` is for places: write `if` or `when`",
        rf"\b{_PLACE},? where \w+",
    ),
    _rule(
        "where (condition), of a failure",
        r"\bwhere (?:it|they|that|this|these|those|one|a|an|the)(?: \w+)? "
        r"(?:fails?|failed|cannot|(?:does|do|did|has|have|had|is|are|was|were|may) not|breaks?|ends?)"
        r"\b",
        "`where` is for places: write `if` or `when`",
        rf"\b{_PLACE},? where \w+ \w+(?: \w+)?(?: \w+)?",
    ),
    _rule(
        "where (condition), after a participle",
        r"\b\w{2,}(?:ed|own|aken) where\b(?! to\b)",
        "`where` is for places: write `if` or `when`",
        r"\b(?:stored|placed|located|defined|used|documented|raised|called|needed|created|described|inserted|explained"
        r"|started|shared|declared|recorded|based|installed|known|shown|resumed|continued|remained|rendered|mentioned"
        r"|moved|positioned|formatted|indexed|red|bed|led|fed) where\b",
    ),
)

_ACTORS: Final = (
    _rule("whoever", r"\bwho(?:ever|soever)\b", "name the actor: the client, the worker, the consumer"),
    _rule("who (actor)", rf"{_START}(?:and |or |but )?who (?=\w){_NO_QUESTION}", "name the actor: a client that waits"),
    _rule(
        "who (actor), inside a sentence",
        r"\b(?:of|for|to|from|by|than|as|if|when|because|that|let|lets|and|or|but|until|while|so|also|those|with) "
        r"who \w+",
        "name the actor: a client that waits",
        r"\b(?:people|users|persons?|developers|operators|anyone|someone|everyone|one)(?: \w+)? (?:and|or|but) who\b"
        r"|\b(?:of|to) who (?:is|owns|wrote|may)\b",
    ),
    _rule(
        "nobody",
        r"\b(?:nobody|somebody|anybody|everybody)\b",
        "name the actor, or use the passive: no client, it is not read",
    ),
    _rule(
        "what (as a subject)",
        rf"{_START}(?:and |or |but )?what (?!(?:to|if|about|kind|follows|we|you|happens|matters|differs)\b)"
        rf"{_NO_QUESTION}(?=[^.;!?¶]*[.;])",
        "name the thing: `entries that cannot be read`, not `what cannot be read`",
    ),
    _rule(
        "what (as a subject), inside a sentence",
        r"(?:, |\band |\bor |\bthan |\bbecause |\bthat |\bof |\bas |\bwith |\bfor |\bto )what "
        r"(?:was|were|has|had|stays|waits|comes|came|fails|failed|cannot|lies|stands|goes|went|must|may|follows|ends)\b",
        "name the thing: `entries that cannot be read`, not `what cannot be read`",
        r"\bwhat follows\b|\bto what was\b",
    ),
    _rule(
        "all that",
        r"\ball that (?:is|was|are|were|has|had|have|it|they|can|could|came|comes|waits?|were|\w+ed)\b",
        "name the things: `every command that waits`",
        r"\ball that (?:is (?:needed|required|left)|matters|remains)\b",
    ),
)

_VERBS: Final = (
    _rule(
        "tell",
        r"\b(?:tells?|told|telling|untold)\b",
        "software returns, reports, notifies, replies, publishes or logs",
        r"\b(?:tells?|telling|told)(?: \S+){0,5} (?:apart|from|the difference)\b"
        r"|\btells? (?:the |a )?(?:\w+ ){1,2}(?:how )?to \w+",
    ),
    _rule("hear", r"\b(?:hears?|heard|hearing|unheard)\b", "software receives or detects"),
    _rule(
        "stand",
        r"\b(?:stands?|stood)\b(?!-)",
        "write `is`, or say what it does",
        r"\b(?:stands?|stood) (?:for|in for|out|alone|up|back|by)\b",
    ),
    _rule(
        "lie",
        r"\b(?:lies|lie|lay|lain)\b",
        "write `is` or `is stored`",
        r"\b(?:lies|lie|lay) (?:in|between|within|outside|behind|ahead)\b",
    ),
    _rule(
        "go on",
        r"\b(?:go|goes|went|gone) on\b",
        "write `continue` or `resume`",
        r"\b(?:go|goes|went) on (?:to|the|a|an|top|this|that|these|your|each|one)\b",
    ),
    _rule("come again", r"\b(?:comes?|coming|came) (?:again|anew)\b", "an event is redelivered, a call is repeated"),
    _rule(
        "take away",
        r"\b(?:takes?|took|taken|taking) (?:\w+ )?away\b",
        "write `remove`, or `trim` for a stream",
    ),
    _rule("take back", r"\b(?:takes?|took|taken|taking) (?:\w+ )?back\b", "write `roll back` or `lose`"),
    _rule("rest", r"\b(?:rests|rested|resting)\b", "a consumer is idle, an endpoint's circuit is open"),
    _rule("look whether", r"\b(?:looks?|looked|looking|try|tries|tried) whether\b", "write `check whether`"),
    _rule("is let", r"\b(?:is|are|was|were) let\b", "write `may`, or `is allowed to`"),
    _rule("come on top", r"\b(?:comes?|came) on top\b", "write `in addition` or `not counted`"),
)

_IDIOMS: Final = (
    _rule(
        "behind (time or order)",
        r"\bbehind\b",
        "write `after`; `behind` is for what is hidden by something, as a server behind a proxy",
        r"\bbehind (?:(?:a|an|the|its|their|your|this|that|one|some|any|another|each|every) )?(?:[\w-]+ )?(?:[\w-]+ )?"
        r"(?:prox(?:y|ies)|balancers?|firewalls?|gateways?|NATs?|Sentinels?|scenes|flags?|routers?|tunnels?|ingress"
        r"|nginx|features?|locks?|APIs?|interfaces?|protocols?|ports?|layers?|abstractions?)\b"
        r"|\b(?:fall|falls|fell|fallen|falling|lag|lags|lagging|leave|leaves|left|leaving|far|seconds?|events|messages"
        r"|entries|commands|bytes|idea|ideas|reason|reasons|rationale|logic|motivation|waits?|waiting|queues?|queued"
        r"|stuck|running|run|versions?)(?: \w+){0,2} behind\b",
    ),
    _rule(
        "is none",
        r"\b(?:is|are|was|were|be) (?-i:none)\b",
        "write `there is no …`, `is not a …` or `is missing`",
        r"\b(?:there (?:is|are|was|were|may be|will be|can be)|(?:is|are) there) none\b|\bnone of\b",
    ),
    _rule(
        "is there", r"\b(?:that|which|what|they|who) (?:is|are|was|were) there\b", "write `exists` or `is available`"
    ),
    _rule("in hand", r"\bin hand\b", "write `in progress`, `in flight` or `being handled`"),
    _rule("meanwhile", r"\bmeanwhile\b", "say when: `while it was disconnected`, `since the last read`"),
    _rule("anew", r"\banew\b", "write `again`"),
    _rule("by itself", r"\bby (?:itself|themselves)\b", "write `automatically`, or `alone`"),
    _rule("all the same", r"\ball the same\b", "write `anyway` or `still`"),
    _rule(
        "of its own",
        r"\bof (?:its|their|your|our|my|his|one's) own\b|\bof (?:yours|ours|theirs)\b",
        "write `its own …` or `a separate …`",
        r"\bof (?:its|their|your|our) own accord\b",
    ),
    _rule("now and then", r"\bnow and then\b", "write `periodically` or `occasionally`"),
    _rule(
        "aside", r"\baside\b(?! from\b)", "an entry is quarantined, a session's event is retried separately or parked"
    ),
    _rule("mend", r"\bmend(?:s|ed|ing)?\b", "write `fix` or `repair`"),
    _rule("road", r"\broads?\b", "write `path` or `life of a command`"),
    _rule("lest", r"\blest\b", "write `so that … not`"),
    _rule("beside", r"\bbeside\b", "write `next to`, `with` or `in addition to`"),
    _rule("for ever", r"\bfor ever\b", "write `forever` or `without limit`"),
    _rule("foreign", r"\bforeign\b(?! keys? constraint)", "write `a key of the wrong type` or `another program's`"),
    _rule("rights", r"\brights\b(?! reserved)", "write `permissions`"),
    _rule("no more (time)", r"\bno more\b(?=\s*(?:[.,;:)¶]|\Z))", "write `no longer`"),
    _rule(
        "old adverb", r"\b(?:whence|thence|hither|thereof|therein|whereof|thereupon|singly|lately)\b", "say it plainly"
    ),
    _rule("at its start", r"\bat (?:its|their) (?:start|end)\b", "write `on start-up`, `when it starts`"),
)

RULES: Final = (*_CONDITIONS, *_ACTORS, *_VERBS, *_IDIOMS)
