"""Completion for zsh and fish; click has bash's.

Not here: the words themselves (`docking.cli.completion`). Imported only for completion. Invariants: a value or a help
text may contain commas and colons; a value after `--option=` is completed too; errors complete nothing and print
nothing, since the user is in the middle of a line.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from click.shell_completion import CompletionItem, FishComplete, ShellComplete, ZshComplete, add_completion_class

# Each item comes in three lines: its kind, its value, its help or `_`. A start-up file that has not called compinit
# has no compdef, and zsh would complain at each start.
ZSH = r"""#compdef %(prog_name)s
(( $+functions[compdef] )) || { autoload -Uz compinit && compinit -i }

%(complete_func)s() {
    local kind value text
    local -a answered plain described
    (( $+commands[%(prog_name)s] )) || return 1
    local -x COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT - 1)) %(complete_var)s=zsh_complete
    answered=("${(@f)$(%(prog_name)s)}")
    [[ $PREFIX == --*=* ]] && compset -P 1 '*='
    for kind value text in "${(@)answered}"; do
        case $kind:$text in
            dir:*) _path_files -/ ;;
            file:*) _path_files ;;
            plain:_) plain+=("$value") ;;
            plain:*) described+=("$value:$text") ;;
        esac
    done
    (( $#described )) && _describe -V %(prog_name)s described
    (( $#plain )) && compadd -V plain -a plain
    return 0
}

if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

# Each item comes in one line: kind, value and help with tabs between them.
FISH = r"""function %(complete_func)s
    set -l word (commandline --current-token --cut-at-cursor | string collect)
    set -l line (commandline --current-process --cut-at-cursor | string join ' ')
    set -l option (string match --regex -- '^--[^=]*=' $word)
    env %(complete_var)s=fish_complete COMP_WORDS="$line" COMP_CWORD="$word" %(prog_name)s |
        while read --local --delimiter \t kind value text
            switch $kind
                case dir
                    printf '%%s\n' "$option"(__fish_complete_directories $value)
                case file
                    printf '%%s\n' "$option"(__fish_complete_path $value)
                case plain
                    printf '%%s\t%%s\n' "$option$value" "$text"
            end
        end
end
complete --no-files --command %(prog_name)s --arguments '(%(complete_func)s)'
"""


class _Quiet(ShellComplete):
    """Completes nothing if there is an error."""

    def complete(self) -> str:
        """See `click.shell_completion.ShellComplete`."""
        with suppress(Exception):
            return super().complete()
        return ""


class Zsh(_Quiet, ZshComplete):
    """Zsh, of any version that has `compinit`."""

    source_template = ZSH


class Fish(_Quiet, FishComplete):
    """Fish 3 and later."""

    source_template = FISH

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """See `click.shell_completion.ShellComplete`."""
        return "\t".join(" ".join(str(text).split()) for text in (item.type, item.value, item.help or ""))


def register() -> None:
    """Register them with click."""
    add_completion_class(Zsh)
    add_completion_class(Fish)
