"""`sleepctl completion SHELL`: completion scripts, made of the table of verbs."""

from __future__ import annotations

from sleepd.cli.codes import DONE
from sleepd.cli.verbs import COMMON, SHELLS, VERBS, Option, Verb

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from sleepd.client import Client


def show_completion(client: Client, options: argparse.Namespace) -> int:
    """Print the script, or the names that the scripts ask for."""
    if options.what == "models":
        print("\n".join(model["name"] for model in client.models().body["models"]))
    elif options.what == "holds":
        print("\n".join(hold["id"] for hold in client.holds().body["holds"]))
    elif options.what == "reservations":
        print("\n".join(kept["id"] for kept in client.reservations().body["reservations"]))
    else:
        print({"bash": bash, "zsh": zsh, "fish": fish}[options.what](), end="")
    return DONE


def bash() -> str:
    cases = "\n".join(f"    {verb.name}) words='{' '.join(_words(verb))}' ;;" for verb in VERBS)
    first = " ".join([*(verb.name for verb in VERBS), *(option.flag for option in COMMON), "--help", "--version"])
    takes_models = "|".join(verb.name for verb in VERBS if verb.models not in ("", "job"))
    return f"""# bash completion of sleepctl: put it into /usr/share/bash-completion/completions/sleepctl, or
#   source <(sleepctl completion bash)
_sleepctl() {{
  local cur=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD-1]}} verb= words= i word
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${{COMP_WORDS[i]}}
    case $word in
    --) [[ $verb == @(hold|reserve) ]] && {{ _sleepctl_command $((i + 1)); return; }} ;;
    --socket) ((i++)) ;;
    -*) ;;
    *) verb=$word; break ;;
    esac
  done
  for ((; i < COMP_CWORD; i++)); do
    [[ ${{COMP_WORDS[i]}} == -- && $verb == @(hold|reserve) ]] && {{ _sleepctl_command $((i + 1)); return; }}
  done
  case $before in
  --socket|--trace|--html) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
  --level) mapfile -t COMPREPLY < <(compgen -W '1 2' -- "$cur"); return ;;
  --release) mapfile -t COMPREPLY < <(compgen -W "$(_sleepctl_names holds)" -- "$cur"); return ;;
  --end) mapfile -t COMPREPLY < <(compgen -W "$(_sleepctl_names reservations)" -- "$cur"); return ;;
  {"|".join(_with_value())}) return ;;
  esac
  case $verb in
    '') words='{first}' ;;
{cases}
  esac
  case $verb in
  {takes_models}) [[ $cur == -* ]] || words+=" $(_sleepctl_names models)" ;;
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}}
_sleepctl_names() {{
  local i socket=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    [[ ${{COMP_WORDS[i]}} == --socket ]] && socket=(--socket "${{COMP_WORDS[i+1]}}")
  done
  "${{COMP_WORDS[0]}}" "${{socket[@]}}" completion "$1" 2>/dev/null
}}
_sleepctl_command() {{
  if ((COMP_CWORD == $1)); then mapfile -t COMPREPLY < <(compgen -c -- "$cur")
  else compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); fi
}}
complete -F _sleepctl sleepctl
"""


def zsh() -> str:
    verbs = "\n".join(f"    {_zsh_text(verb.name, verb.help)}" for verb in VERBS)
    cases = "\n".join(f"    {verb.name}) _arguments -S {' '.join(_zsh_arguments(verb))} ;;" for verb in VERBS)
    return f"""#compdef sleepctl
# zsh completion of sleepctl: put it as _sleepctl into a folder of $fpath, or
#   source <(sleepctl completion zsh)
_sleepctl() {{
  local curcontext=$curcontext state line
  local -a verbs=(
{verbs}
  )
  _arguments -C {" ".join(_zsh_option(option) for option in COMMON)} '1: :->verb' '*:: :->rest'
  case $state in
  verb) _describe -t commands command verbs ;;
  rest)
    case $words[1] in
{cases}
    esac ;;
  esac
}}
_sleepctl_models() {{ local -a names=(${{(f)"$(sleepctl completion models 2>/dev/null)"}}); compadd -a names }}
_sleepctl_reserved() {{ local -a names=(${{(f)"$(sleepctl completion reservations 2>/dev/null)"}}); compadd -a names }}
_sleepctl_holds() {{ local -a names=(${{(f)"$(sleepctl completion holds 2>/dev/null)"}}); compadd -a names }}
if [[ $funcstack[1] == _sleepctl ]]; then _sleepctl "$@"; else compdef _sleepctl sleepctl; fi
"""


def fish() -> str:
    lines = [
        "# fish completion of sleepctl: put it into ~/.config/fish/completions/sleepctl.fish, or",
        "#   sleepctl completion fish | source",
        "complete -c sleepctl -f",
    ]
    lines += [f"complete -c sleepctl {_fish_option(option)}" for option in COMMON]
    lines += [f"complete -c sleepctl -n __fish_use_subcommand -a {v.name} -d {_quoted(v.help)}" for v in VERBS]
    for verb in VERBS:
        here = f"complete -c sleepctl -n '__fish_seen_subcommand_from {verb.name}'"
        lines += [f"{here} {_fish_option(option)}" for option in verb.options]
        if verb.models not in ("", "job"):
            lines.append(f"{here} -a '(sleepctl completion models 2>/dev/null)'")
        elif verb.tail and not verb.models:
            lines.append(f"{here} -a '{' '.join(SHELLS)}'")
    return "\n".join([*lines, ""])


def _words(verb: Verb) -> list[str]:
    flags = [option.flag for option in (*verb.options, *COMMON)] + ["--help"]
    return flags + (verb.tail.split("|") if verb.tail and not verb.models else [])


def _with_value() -> list[str]:
    known = {"--socket", "--trace", "--html", "--level", "--release", "--end"}
    options = (option for verb in VERBS for option in verb.options)
    return list(dict.fromkeys(o.flag for o in options if o.kind != "flag" and o.flag not in known))


def _zsh_arguments(verb: Verb) -> list[str]:
    found = [_zsh_option(option) for option in (*verb.options, *COMMON)]
    if verb.name == "hold":
        return [*found, "'1:model:_sleepctl_models'", "'*:::command:_normal'"]
    if verb.models == "job":
        return [*found, "'*:::command:_normal'"]
    if verb.models:
        return [*found, "'*:model:_sleepctl_models'"]
    return found + ([f"'1:what:({verb.tail.replace('|', ' ')})'"] if verb.tail else [])


def _zsh_option(option: Option) -> str:
    actions = {
        "--socket": "_files",
        "--trace": "_files",
        "--html": "_files",
        "--level": "(1 2)",
        "--release": "_sleepctl_holds",
    }
    actions["--end"] = "_sleepctl_reserved"
    takes = f":{option.metavar}:{actions.get(option.flag, ' ')}" if option.kind != "flag" else ""
    text = option.help.replace("[", "(").replace("]", ")").replace(":", " ").replace("'", "'\\''")
    return f"'{option.flag}[{text}]{takes}'"


def _zsh_text(name: str, text: str) -> str:
    escaped = text.replace("'", "'\\''").replace(":", "\\:")
    return f"'{name}:{escaped}'"


def _fish_option(option: Option) -> str:
    files = dict.fromkeys(("--socket", "--trace", "--html"), " -r -F")
    values = {**files, "--level": " -x -a '1 2'", "--release": " -x -a '(sleepctl completion holds)'"}
    values["--end"] = " -x -a '(sleepctl completion reservations)'"
    takes = "" if option.kind == "flag" else values.get(option.flag, " -x")
    return f"-l {option.flag.lstrip('-')}{takes} -d {_quoted(option.help)}"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
