"""LangSmith's own client, opened from the settings, quiet, and with its errors in our words."""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from steelyard.core.errors import InvalidValue, MissingExtra, NotFound, StoreUnavailable
from steelyard.core.settings import Settings

if TYPE_CHECKING:
    from langsmith import Client

__all__ = ["langsmith_client"]

_CONNECT_MS, _READ_MS = 3_000, 30_000


@contextmanager
def langsmith_client(settings: Settings) -> Generator[tuple[Client, list[Exception]]]:
    """A client, and the errors of what it sent in the background so far.

    Whatever LangSmith refuses inside the block comes out as one of our errors.

    Raises:
        InvalidValue: there is no key, or LangSmith refuses what was sent.
        NotFound: LangSmith has no such thing.
        StoreUnavailable: LangSmith cannot be reached, or refuses the key.
        MissingExtra: `langsmith` is not installed.
    """
    if not settings.langsmith_api_key:
        raise InvalidValue("there is no key for LangSmith", do="Set LANGSMITH_API_KEY.")
    try:
        from langsmith import Client
        from langsmith import utils as words
        from requests.exceptions import RequestException
        from urllib3.util import Retry
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "langsmith", extra="langchain", needed_for="LangSmith") from None
    failed: list[Exception] = []
    with _quiet():
        client = Client(
            api_url=settings.langsmith_endpoint,
            api_key=settings.langsmith_api_key,
            timeout_ms=(_CONNECT_MS, _READ_MS),
            retry_config=Retry(total=2, backoff_factor=0.3, status_forcelist=[502, 503, 504]),
            tracing_sampling_rate=1.0,  # a sampled experiment would be a wrong one
            omit_traced_runtime_info=True,
            tracing_error_callback=failed.append,
            disable_prompt_cache=True,
        )
        try:
            yield client, failed
        except words.LangSmithNotFoundError as error:
            raise NotFound("LangSmith resource", _line(error)) from None
        except words.LangSmithAuthError as error:
            raise StoreUnavailable(client.api_url, _line(error), do="Check LANGSMITH_API_KEY.") from None
        except (
            words.LangSmithConnectionError,
            words.LangSmithAPIError,
            words.LangSmithRequestTimeout,
        ) as error:
            raise _unreachable(client, error) from None
        except words.LangSmithError as error:
            raise InvalidValue(
                f"LangSmith refuses it ({_line(error)})", do="Look at what was sent."
            ) from None
        except (RequestException, OSError) as error:
            raise _unreachable(client, error) from None
        finally:
            client.close(timeout=0)


def _unreachable(client: Client, error: Exception) -> StoreUnavailable:
    do = "Look whether LangSmith can be reached (LANGSMITH_ENDPOINT), then try again."
    return StoreUnavailable(client.api_url, _line(error), do=do)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


@contextmanager
def _quiet() -> Generator[None]:
    """Without the client's log lines: what fails is said once, by us."""
    logger = logging.getLogger("langsmith")
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(level)
