"""Whether the body of a 2xx holds an error; pure.

Many receivers answer 200 to every request that they can read, and put the error into the body. The forms of
:data:`FORMS` are recognized, and any other body is a success. The Secret's key ``success`` describes a success of
another receiver; then everything else is an error.

A receiver may repeat what was sent to it, with its secrets. So nothing of a body is quoted but a number, or a code in
letters and underscores.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from function import errors, events

ONLY_STATUS = "status"
"""The word in the key ``success`` that turns the reading of bodies off."""
_MOST_NESTED = 10
"""How deep the key ``success``, and the words of an error, may be nested."""


@dataclasses.dataclass(frozen=True, slots=True)
class Success:
    """What the key ``success`` asks of a body: that it holds ``wanted``; nothing where ``wanted`` is None."""

    wanted: events.Json = dataclasses.field(repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Refusal:
    """An error that a 2xx holds.

    why: goes after "answered 200, but ". code: the receiver's own code, which may be a word that was sent to it, or "".
    temporary: whether the same request may succeed later. wait: seconds until then, where the receiver gives them.
    """

    why: str
    code: str
    temporary: bool
    wait: float | None = None


def success(text: str, what: str) -> Success | None:
    """Return what the key ``success`` asks for; None where it is empty. ``what`` names it in errors.

    Raises :class:`errors.BadEvent`.
    """
    if not text.strip():
        return None
    if text.strip() == ONLY_STATUS:
        return Success(None)
    wanted = events.parse_json(text.encode("utf-8", "surrogatepass"), what)
    if _depth(wanted) > _MOST_NESTED:
        raise errors.BadEvent(f"{what} is nested too deep")
    if wanted is None:
        raise errors.BadEvent(f"{what} is null: it must be JSON that the answer holds, or the word {ONLY_STATUS}")
    return Success(wanted)


def refusal(body: bytes, expected: Success | None, *, whole: bool = True) -> Refusal | None:
    """Return the error that the body of a 2xx holds; None for a success. whole: whether all of it was read."""
    if expected is not None and expected.wanted is None:
        return None
    said = _read(body)
    found = next(_errors(said), None)
    if expected is None:
        return found
    if _holds(said, expected.wanted):
        return None
    return found or Refusal("without what the key success asks for", "", temporary=not whole or _is_temporary(said))


def _read(body: bytes) -> events.Json:
    """Return a body as JSON, or else as text."""
    try:
        return events.parse_json(body, "the answer")
    except errors.BadEvent:
        return body.decode("utf-8", "replace").strip()


def _depth(node: events.Json) -> int:
    """Return how many objects and arrays stand inside each other."""
    depth, level = 0, [node]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return depth


def _holds(said: events.Json, wanted: events.Json) -> bool:
    """Whether ``said`` has every member of ``wanted``; what is not an object must be equal."""
    if isinstance(wanted, dict):
        return isinstance(said, dict) and all(key in said and _holds(said[key], wanted[key]) for key in wanted)
    return isinstance(said, bool) == isinstance(wanted, bool) and bool(said == wanted)  # 0 == False


# --- the forms that are recognized ----------------------------------------------------------------------------------

Answer = dict[str, Any]
"""A JSON object by its keys in lower case."""

_WELL = frozenset(("", "ok", "success", "succeeded", "successful"))
_NO_ERROR = _WELL | {"0", "none", "null", "no", "false"}
_BAD = re.compile(
    r"err|error|errored|exception|fail|failed|failure|ko|nok|not[ _]ok|refused|rejected|denied|forbidden"
    r"|unauthori[sz]ed|bad[ _]request|invalid\b.*",
    re.DOTALL,
)
_CODE = re.compile(r"-?[0-9]{1,8}|[A-Za-z]+(?:_[A-Za-z]+)*", re.ASCII)
_MOST_CODE = 40
_WRAPPERS = ("status", "response", "meta", "head")
"""Members in which some receivers put what others have beside them: Wavefront (status), Tencent (response)."""
_TEAMS = re.compile(r"webhook message delivery failed|microsoft teams endpoint returned http error", re.IGNORECASE)
_TEXT = re.compile(
    r"(?:err|error|exception|fail|failed|failure|invalid|denied|forbidden|unauthori[sz]ed)(?![a-z])(?!\W*0).*"
    r"|\w+_not_found|\w+_is_archived|no_(?:service|team|text)|team_disabled|action_prohibited",
    re.IGNORECASE | re.DOTALL,
)
"""A text that begins with a word for an error, unless it counts them, and the codes of Slack's webhooks."""
_STATUS = re.compile(r"\b[45][0-9]{2}\b", re.ASCII)


def _flag(answer: Answer) -> bool:
    """Slack and Telegram (ok), Rocket.Chat and many others (success); Firebase, where success is their number."""
    keys = ("ok", "success", "accepted", "delivered", "sent")
    return any(answer.get(key) == 0 or _word_of(answer, key) == "false" for key in keys)  # 0 == False


def _error_code(answer: Answer) -> bool:
    """DingTalk and WeCom (errcode), and what others call the same. Kafka's REST proxy has 200 there."""
    keys = ("errcode", "errno", "error_code", "errorcode", "err_code", "err_no", "retcode")
    return any(_is_error_number(answer.get(key)) for key in keys)


def _code(answer: Answer) -> bool:
    """Feishu and Lark (code with msg, StatusCode with StatusMessage), Splunk (code with text)."""
    pairs = (("code", "msg"), ("code", "message"), ("code", "text"), ("statuscode", "statusmessage"))
    return any(
        _is_error_number(answer.get(key)) and message in answer and _word_of(answer, message) not in _WELL
        for key, message in pairs
    )


def _result(answer: Answer) -> bool:
    """PagerDuty and Datadog (status), VictorOps, Zulip and Wavefront (result)."""
    words = (_word_of(answer, "status"), _word_of(answer, "result"))
    return any(_BAD.fullmatch(word) for word in words) or 400 <= (_number(answer.get("status")) or 0) < 600


def _error(answer: Answer) -> bool:
    """GraphQL and Elasticsearch (errors), JSON-RPC (error), unless a flag beside it is true."""
    if _is_well(answer):
        return False
    keys = ("error", "errors", "err", "errormessage", "error_message", "exception")
    values = [answer[key] for key in keys if answer.get(key)]
    return any(not isinstance(value, str) or value.strip().lower() not in _NO_ERROR for value in values)


FORMS: tuple[Callable[[Answer], bool], ...] = (_flag, _error_code, _code, _result, _error)
"""What an error looks like in a JSON object."""


def _errors(said: events.Json) -> Iterator[Refusal]:
    """Give the errors that an answer holds."""
    match said:
        case str() if _TEAMS.search(said):
            status = _STATUS.search(said)
            code = status[0] if status else ""
            # Without a status, the connector could not reach Teams.
            yield Refusal(_WHY, code, temporary=not code or _is_temporary_code(code))
        case str() if _TEXT.fullmatch(said.strip()):
            code = _quotable(said)
            yield Refusal(_WHY, code, _is_temporary_code(code) or _is_temporary(said))
        case list():
            for item in said:
                if isinstance(item, dict):
                    yield from _errors(item)
        case dict():
            answer = _lower(said)
            parts = [answer] if _is_well(answer) else [answer, *_inner(answer, _WRAPPERS)]
            if any(form(part) for form in FORMS for part in parts):
                code = _code_of(parts)
                temporary = _is_temporary_code(code) or any(_is_temporary(part) for part in parts)
                yield Refusal(_WHY, code, temporary, _wait(answer))


_WHY = "with an error in its body"


def _lower(said: dict[str, Any]) -> Answer:
    return {str(key).lower(): value for key, value in said.items()}


def _inner(answer: Answer, keys: Iterable[str]) -> list[Answer]:
    """Return those of the members that are objects."""
    return [_lower(answer[key]) for key in keys if isinstance(answer.get(key), dict)]


def _is_well(answer: Answer) -> bool:
    """Whether an answer says outright that it is a success."""
    return answer.get("ok") is True or answer.get("success") is True


def _number(value: object) -> int | None:
    """Return the whole number that a value is, or is the text of."""
    match value:
        case bool():
            return None
        case int():
            return value
        case float() if value.is_integer():
            return int(value)
        case str() if re.fullmatch(r"\s*-?[0-9]{1,9}\s*", value, re.ASCII):
            return int(value)
        case _:
            return None


def _is_error_number(value: object) -> bool:
    """Whether a value is a number that no success has: neither 0 nor a 2xx."""
    number = _number(value)
    return number is not None and number != 0 and not 200 <= number < 300


def _word_of(answer: Answer, key: str) -> str:
    value = answer.get(key)
    return value.strip().lower() if isinstance(value, str) else ""


def _code_of(parts: Iterable[Answer]) -> str:
    """Return the receiver's code of an error; nothing where it has none that may be quoted."""
    keys = ("error_code", "errcode", "errno", "retcode", "code", "statuscode", "error", "status")
    holders = [holder for part in parts for holder in (part, *_inner(part, ("error",)))]
    found = (_quotable(holder.get(key)) for holder in holders for key in keys)
    return next(filter(None, found), "")


def _quotable(value: object) -> str:
    """Return a code as text: a number, or letters and underscores; nothing for any other value."""
    text = str(value).strip()
    is_code = len(text) <= _MOST_CODE and _CODE.fullmatch(text) and text.lower() not in _NO_ERROR | {"true"}
    return text if is_code else ""


# --- whether an error passes ----------------------------------------------------------------------------------------

_PASSING_CODES = frozenset(
    (
        *("-1", "130101", "410100", "90018", "90030"),  # DingTalk: busy; too fast; too often
        *("45009", "45033"),  # WeCom: too often; too many at once
        *("9499", "11232", "99991400"),  # Feishu: too often
        *("408", "429"),
        *("ratelimited", "rate_limited", "rate_limit_hit", "message_limit_exceeded"),  # Slack, Zulip
        *("internal_error", "fatal_error", "service_unavailable", "request_timeout", "team_added_to_org"),  # Slack
    )
)
_PASSING_WORDS = re.compile(
    r"rate.?limit|limit exceeded|out of limit|over limit|too (?:many|fast|frequent|often)|frequen|throttl|quota"
    r"|try again|retry|temporar|unavailable|overload|\bbusy\b|time[d ]{0,2}-?out|internal (?:server )?error|\b429\b"
    r"|频|限流|太快|繁忙|稍后",
    re.IGNORECASE,
)
_MESSAGES = frozenset(
    (
        *("error", "errors", "errmsg", "msg", "message", "description", "detail", "reason", "status", "text"),
        *("errormessage", "error_message", "error_msg", "statusmessage", "status_message"),
    )
)


def _is_temporary_code(code: str) -> bool:
    return code.lower() in _PASSING_CODES or bool(re.fullmatch("5[0-9]{2}", code, re.ASCII))


def _is_temporary(said: events.Json, nested: int = 0) -> bool:
    """Whether an answer has words for an error that passes."""
    if nested > _MOST_NESTED:
        return False
    match said:
        case str():
            return bool(_PASSING_WORDS.search(said))
        case dict():
            return any(_is_temporary(value, nested + 1) for key, value in said.items() if key.lower() in _MESSAGES)
        case list():
            return any(_is_temporary(item, nested + 1) for item in said)
        case _:
            return False


def _wait(answer: Answer) -> float | None:
    """Return the seconds that an answer asks to wait: Telegram (parameters.retry_after), Discord (retry_after)."""
    parameters = answer.get("parameters")
    for holder in (answer, parameters if isinstance(parameters, dict) else {}):
        value = holder.get("retry_after")
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
            return float(min(value, 1e9))
    return None
