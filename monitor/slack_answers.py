"""What Slack, or the network in its place, answered: certainly posted, certainly not, or perhaps."""

import re
import socket
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.error import HTTPError, URLError

from slack_sdk.errors import SlackApiError

from monitor.protocols import SendResult

_DEFAULT_RETRY_AFTER_S = 30.0  #: after a 429 that does not say

#: Slack's error codes that say "not now" and nothing was posted
_NOT_NOW = {"ratelimited", "rate_limited", "request_timeout", "service_unavailable"}
#: and those after which it may have been posted all the same
_DOUBTFUL = {"internal_error", "fatal_error"}
#: why a connection never came about
_NOT_REACHED = (ConnectionRefusedError, socket.gaierror, TimeoutError, ssl.SSLCertVerificationError)


def result_of(error: Exception) -> SendResult:
    """What an exception of slack-sdk or of the network says about the message."""
    if isinstance(error, SlackApiError):
        return _by_answer(error)
    if isinstance(error, URLError) and not isinstance(error, HTTPError):
        reason = error.reason
        if isinstance(reason, _NOT_REACHED):
            return SendResult("retry", error=f"Slack cannot be reached: {_words(reason)}")
        return SendResult("unknown", error=f"the connection to Slack broke: {_words(reason)}")
    return SendResult("unknown", error=f"no answer from Slack: {_words(error)}")


def _by_answer(error: SlackApiError) -> SendResult:
    response: Any = error.response
    code = str(response.get("error") or "") if isinstance(response.data, dict) else ""
    if response.status_code == 200 and code and " " not in code:  # an answer of Slack's own, not some proxy's page
        if code in _NOT_NOW:
            return SendResult("retry", error=code, retry_after_s=_retry_after_s(response.headers))
        return SendResult("unknown" if code in _DOUBTFUL else "refused", error=code)
    return by_status(response.status_code, code, response.headers)


def by_status(status: int, body: str, headers: Mapping[str, str]) -> SendResult:
    """What a bare HTTP status says; `body` is kept where it is one word, as webhooks answer."""
    words = f"HTTP {status} {body}" if re.fullmatch(r"[\w.-]{1,80}", body or "") else f"HTTP {status}"
    if status == 429:
        return SendResult("retry", error=words, retry_after_s=_retry_after_s(headers))
    if 400 <= status < 500 and status != 408:
        return SendResult("refused", error=words)
    return SendResult("unknown", error=words)


def _retry_after_s(headers: Mapping[str, str]) -> float:
    lowered = {name.lower(): value for name, value in headers.items()}
    try:
        return max(1.0, float(lowered.get("retry-after", _DEFAULT_RETRY_AFTER_S)))
    except ValueError:
        return _DEFAULT_RETRY_AFTER_S


def _words(reason: object) -> str:
    """The kind of failure; never the text of an unknown exception, which may hold a URL or a token."""
    known = isinstance(reason, OSError) and reason.strerror
    return f"{type(reason).__name__} ({reason.strerror})" if known else type(reason).__name__  # type: ignore[attr-defined]
