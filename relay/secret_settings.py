"""Settings of which each may also come from a file of secrets."""

from __future__ import annotations

from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SecretsSettingsSource

from connectors.secrets import secrets_folder


class SecretSettings(BaseSettings):
    """From arguments, the environment, or files in the folder ``SIGNALS_SECRETS_DIR``: the first that has a value.

    A subclass sets ``env_prefix``; a file is named like the environment variable, in lower case.
    """

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, environment, files of secrets."""
        folder = secrets_folder()
        files = (SecretsSettingsSource(settings_cls, secrets_dir=folder),) if folder else ()
        return (named["init_settings"], named["env_settings"], *files)
