"""``agent-sessions completion``: the script by which a shell completes the commands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from agent_cores.session.cli.output import say

if TYPE_CHECKING:
    from cyclopts import App

Shell = Literal["bash", "zsh", "fish"]


def add_completion(app: App) -> None:
    """Add the command ``completion``, which completes all commands of the application."""

    @app.command
    def completion(shell: Shell) -> None:
        """Print the script by which a shell completes commands and options.

        For bash: agent-sessions completion bash
        > ~/.local/share/bash-completion/completions/agent-sessions.

        Parameters
        ----------
        shell
            bash, zsh or fish.
        """
        say(app.generate_completion(shell=shell).rstrip())
