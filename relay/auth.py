"""Authentication: a JWT or an API token identifies a user of the store. The tier always comes from the store.

JWTs must carry ``sub`` (the user's name), ``exp``, ``iss`` and ``aud``; the algorithm is the configured one and never
the token's own choice.
"""

from __future__ import annotations

import time
from typing import Any

import jwt
import msgspec

from relay.settings import RelaySettings
from relay.users import TOKEN_PREFIX, User, UserStore


class AuthError(Exception):
    """Not signed in; the message says why without repeating the token."""


class Identity(msgspec.Struct, frozen=True):
    """A signed-in user, and when the sign-in ends (wall clock; None: when it is revoked)."""

    user: User
    expires_ms: int | None = None


class Authenticator:
    """Checks tokens against the settings and the user store."""

    def __init__(self, settings: RelaySettings, store: UserStore) -> None:
        self._store, self._settings = store, settings
        if settings.jwt_public_key:
            self._key: str = settings.jwt_public_key
            self._algorithm = settings.jwt_algorithm
            if self._algorithm.startswith("HS") or self._algorithm == "none":
                raise ValueError(
                    f"jwt_algorithm: {self._algorithm!r} cannot verify with a public key; use RS256 or ES256"
                )
        else:
            self._key, self._algorithm = settings.jwt_secret.get_secret_value(), "HS256"
            if not self._key and settings.demo_user:
                self._key = store.secret("demo-jwt")

    def identify(self, token: str) -> Identity:
        """The user behind a token (blocks for the user store); raises AuthError."""
        if not token:
            raise AuthError("no token: send one in the hello message, or as `Authorization: Bearer`")
        if token.startswith(TOKEN_PREFIX):
            user = self._store.by_token(token)
            if user is None:
                raise AuthError("this API token is unknown or revoked; make one with `signals users token NAME`")
            return Identity(user)
        if not self._key:
            raise AuthError("JWTs are not accepted here: no jwt_secret or jwt_public_key is set")
        try:
            claims: dict[str, Any] = jwt.decode(
                token, self._key, algorithms=[self._algorithm], audience=self._settings.jwt_audience,
                issuer=self._settings.jwt_issuer, options={"require": ["exp", "iss", "aud", "sub"]},
            )  # fmt: skip
        except jwt.PyJWTError as error:
            raise AuthError(f"the token is not valid: {error}") from error
        user = self._store.get(str(claims["sub"]))
        if user is None or not user.active:
            raise AuthError("the token's user is unknown or disabled")
        return Identity(user, int(claims["exp"]) * 1_000)

    def issue(self, name: str, seconds: int) -> tuple[str, int]:
        """A JWT for a user of the store, and when it ends (ms); for the demo page and for tests."""
        if self._algorithm != "HS256" or not self._key:
            raise AuthError("tokens can only be made with a jwt_secret")
        expires = int(time.time()) + seconds
        claims = {
            "sub": name, "exp": expires, "iss": self._settings.jwt_issuer, "aud": self._settings.jwt_audience,
        }  # fmt: skip
        return jwt.encode(claims, self._key, algorithm="HS256"), expires * 1_000
