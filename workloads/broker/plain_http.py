"""How does the SDK speak plain HTTP with little work? A session of its own kind, for endpoints without TLS and proxy.

The SDK takes any class of this shape (`AioConfig(http_session_cls=...)`). Its own looks at proxies and the
environment and copies all headers twice on each call.
"""

from __future__ import annotations

from typing import Any

import aiohttp
from aiobotocore.awsrequest import AioAWSResponse
from botocore.httpsession import (
    ConnectionClosedError,
    ConnectTimeoutError,
    EndpointConnectionError,
    HTTPClientError,
    ReadTimeoutError,
)
from yarl import URL


class PlainSession:
    """Connections to one http:// endpoint."""

    def __init__(
        self,
        *,
        timeout: tuple[float, float],
        max_pool_connections: int,
        connector_args: dict[str, Any],
        **_: object,
    ) -> None:
        """What the SDK says of proxies, certificates and sockets does not apply."""
        self._timeout = aiohttp.ClientTimeout(sock_connect=timeout[0], sock_read=timeout[1])
        self._connector_args = {"limit": max_pool_connections, **connector_args}
        self._session: aiohttp.ClientSession | None = None
        self._urls: dict[str, URL] = {}

    async def __aenter__(self) -> PlainSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(**self._connector_args),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=self._timeout,
            auto_decompress=False,
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; closing again changes nothing."""
        if self._session is not None:
            await self._session.close()

    async def send(self, request: Any) -> AioAWSResponse:
        """One exchange. Raise what the SDK's retries understand."""
        assert self._session is not None, "not entered"
        url = self._urls.get(request.url)
        if url is None:
            url = self._urls[request.url] = URL(request.url, encoded=True)
        headers = {k: v.decode() if isinstance(v, bytes) else v for k, v in request.headers.items()}
        try:
            async with self._session.request(request.method, url, data=request.body, headers=headers) as response:
                seen = {k.decode().lower(): v.decode() for k, v in response.raw_headers}
                answer = AioAWSResponse(request.url, response.status, seen, response)
                await answer.content
                return answer
        except aiohttp.ConnectionTimeoutError as error:
            raise ConnectTimeoutError(endpoint_url=request.url, error=error) from error
        except TimeoutError as error:
            raise ReadTimeoutError(endpoint_url=request.url, error=error) from error
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError) as error:
            raise ConnectionClosedError(error=error, request=request, endpoint_url=request.url) from error
        except (aiohttp.ClientConnectionError, OSError) as error:
            raise EndpointConnectionError(endpoint_url=request.url, error=error) from error
        except aiohttp.ClientError as error:
            raise HTTPClientError(error=error) from error
