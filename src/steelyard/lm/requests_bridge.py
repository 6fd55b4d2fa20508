"""Model calls through `requests` (MLflow's judges), recorded and replayed like those through httpx.

Only model calls: a task's other requests, such as what it logs to a tracking server, go out as ever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from steelyard.lm.wire import is_model_call

__all__ = ["around_send"]

_OF_THE_WIRE = ("content-encoding", "content-length", "transfer-encoding")


def around_send(module: Any, exchange: Callable[..., Any]) -> Callable[[Any], Any]:
    """What to put around `requests.adapters.HTTPAdapter.send`.

    Args:
        module: `httpx2` or `httpx`, whose requests and responses `exchange` speaks.
        exchange: `transport.exchange`.
    """

    def around(original: Any) -> Any:
        def send(self: Any, request: Any, *args: Any, **options: Any) -> Any:
            path = module.URL(request.url).path
            body = request.body
            if not is_model_call(request.method, path) or not isinstance(body, (bytes, str, type(None))):
                return original(self, request, *args, **options)

            def live(_: Any) -> Any:
                return _to_httpx(module, original(self, request, *args, **options))

            content = body.encode() if isinstance(body, str) else body
            headers = {k: v for k, v in request.headers.items() if v is not None}
            asked = module.Request(request.method, request.url, headers=headers, content=content)
            return _to_requests(self, request, exchange(module, live, asked))

        return send

    return around


def _to_httpx(module: Any, response: Any) -> Any:
    headers = {k: v for k, v in response.headers.items() if k.lower() not in _OF_THE_WIRE}
    # `content` is decoded, and the whole of a stream.
    return module.Response(response.status_code, headers=headers, stream=module.ByteStream(response.content))


def _to_requests(adapter: Any, request: Any, found: Any) -> Any:
    import requests
    from requests.structures import CaseInsensitiveDict

    response: Any = requests.Response()
    response.status_code = found.status_code
    response.headers = CaseInsensitiveDict(dict(found.headers))
    response._content = found.read()  # pyright: ignore[reportAttributeAccessIssue]  # how requests' own mocks do it
    response._content_consumed = True
    response.encoding = requests.utils.get_encoding_from_headers(response.headers)
    response.reason = found.reason_phrase
    response.url, response.request, response.connection = request.url, request, adapter
    return response
