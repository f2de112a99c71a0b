# shellcheck shell=bash
# Asks a running installation over HTTP and compares its answers: `ask`, then any number of `expect_*`. The first wrong
# answer ends the script and says what was expected. Needs curl alone; JSON is compared as text without its blanks.

have curl || fail "curl is missing" "Install it: apt-get install curl"
asked='' status='' body=''
checks=0
answers=$(mktemp -d)
trap 'rm -rf "$answers"' EXIT

# ask METHOD URL [CURL ARGUMENT...]: sends a request; the answer is in $status, $body and $answers/headers.
ask() {
  asked="$1 $2"
  local method=$1 url=$2 authority port
  shift 2
  authority=${url#*://} authority=${authority%%/*}
  case $authority in
    *:*) port=${authority##*:} ;;
    *) case $url in https:*) port=443 ;; *) port=80 ;; esac ;;
  esac
  # Names under localhost mean this machine; older versions of curl would ask DNS for them. A request that is meant for
  # here never goes through a proxy.
  local resolve=()
  case ${authority%%:*} in *.localhost) resolve=(--resolve "${authority%%:*}:$port:127.0.0.1") ;; esac
  : >"$answers/body"
  status=$(curl --silent --show-error --noproxy '*' --max-time 90 ${resolve[@]+"${resolve[@]}"} --request "$method" \
    --dump-header "$answers/headers" --output "$answers/body" --write-out '%{http_code}' "$@" "$url" 2>"$answers/error") ||
    wrong "an answer" "none: $(cat "$answers/error")"
  # A NUL byte would end the text early.
  body=$(tr -d '\0' <"$answers/body")
}

# header NAME: the value of a header of the last answer.
header() { tr -d '\r' <"$answers/headers" | sed -n "s/^$1: *//Ip" | tail -n 1; }

# wrong EXPECTED GOT: reports the failure and ends the script.
wrong() { fail "$asked" "expected: $1" "got:      $2"; }

shown() { printf '%s %s' "$status" "$(printf '%s' "$body" | head -c 1500)"; }

right() { checks=$((checks + 1)); note "ok  $asked: $1"; }

expect_status() { [ "$status" = "$1" ] || wrong "status $1" "$(shown)"; right "$1"; }

# expect_text TEXT: the body contains it.
expect_text() { [[ $body == *"$1"* ]] || wrong "a body that contains $1" "$(shown)"; right "$1"; }

# compact: the body without blanks around the colons of members.
compact() { sed -E 's/"[[:space:]]*:[[:space:]]*/":/g' <<<"$body"; }

# expect_key KEY: somewhere in the body there is a member KEY.
expect_key() { [[ $(compact) == *"\"$1\":"* ]] || wrong "a member $1" "$(shown)"; right "has $1"; }

# expect_member KEY JSON: somewhere in the body a member KEY has this value (a string with its quotes).
expect_member() {
  local rest
  rest=$(compact)
  # A number must not go on where the expected one ends.
  [[ $rest == *"\"$1\":$2" || $rest == *"\"$1\":$2"[!0-9.]* ]] || wrong "\"$1\": $2" "$(shown)"
  right "\"$1\": $2"
}

expect_header() {
  local got
  got=$(header "$1")
  [[ $got == "$2"* ]] || wrong "the header $1: $2" "${got:-no such header}"
  right "$1: $2"
}

# text_member KEY: the first string member KEY of the body.
text_member() { sed -nE "s/.*\"$1\"[[:space:]]*:[[:space:]]*\"([^\"]*)\".*/\1/p" <<<"$body" | head -n 1; }

# base_url TEXT: TEXT without its last slash; fails when it is no URL.
base_url() {
  case $1 in http://?* | https://?*) printf '%s' "${1%/}" ;; *) fail "'$1' is not a URL" "Write e.g. http://localhost:8000" ;; esac
}
