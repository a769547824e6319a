# Completion for epochctl. It asks the tool itself: its help lists verbs and options.
_epochctl_words() {
  COLUMNS=200 epochctl "$@" --help 2>/dev/null
}
_epochctl() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]} verb='' i
  COMPREPLY=()
  for ((i = 1; i < COMP_CWORD; ++i)); do
    case ${COMP_WORDS[i]} in
      -o | --output) ((++i)) ;;
      -*) ;;
      *) verb=${COMP_WORDS[i]} && break ;;
    esac
  done
  case $before in
    -o | --output) mapfile -t COMPREPLY < <(compgen -W 'table json' -- "$word") && return ;;
    --journal | --file) mapfile -t COMPREPLY < <(compgen -f -- "$word") && return ;;
  esac
  if [[ $word == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$(_epochctl_words ${verb:+"$verb"} |
      grep -oE '(^|[ ,])--?[a-z][a-z-]*' | tr -d ' ,')" -- "$word")
  elif [[ -z $verb || $verb == help ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$(_epochctl_words |
      awk '/^Subcommands:/ { on = 1; next } /^$/ { on = 0 } on { print $1 }')" -- "$word")
  else
    mapfile -t COMPREPLY < <(
      compgen -W "$(find /dev/shm -maxdepth 1 -name 'epoch.*' -printf '%f\n' 2>/dev/null |
        sed 's/^epoch\.//')" -- "$word"
      compgen -f -- "$word"
    )
  fi
}
complete -o filenames -F _epochctl epochctl
