"""What every group of settings is: values that do not change, under names that are all known."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """A group of settings. Each is declared in one group only; configurations are made of groups by inheritance.

    Raises:
        pydantic.ValidationError: a name that is not a setting's, or a value that the setting does not take.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)
