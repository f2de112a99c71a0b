# shellcheck shell=bash
# What benchmarks report: the machine they ran on, a table of figures with their goals, the same as JSON. Figures are
# lines of the file $figures: part, what, value, unit, goal, with tabs between. Needs common.sh and machine.sh.

declare -A machine=()
machine_order=(when processor cores memory kernel cgroups debian)

describe_machine() {
  machine[when]=$(date --utc +%Y-%m-%dT%H:%M:%SZ)
  machine[processor]=$(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)
  machine[cores]=$(nproc)
  machine[memory]=$(awk '/^MemTotal/ { printf "%d MiB", $2 / 1024 }' /proc/meminfo)
  machine[kernel]=$(uname -r)
  machine[cgroups]=$(cgroup_layout)
  machine[debian]=$(cat /etc/debian_version)
}

load() { cut -d' ' -f1-3 /proc/loadavg; }

# describe_load: remembers the load before, and warns where figures will mean little.
describe_load() {
  machine[load_before]=$(load)
  if awk -v load="${machine[load_before]%% *}" -v cores="$(nproc)" 'BEGIN { exit !(load > cores / 2) }'; then
    warn "the machine is busy (load ${machine[load_before]}): only ratios within this run mean something"
  fi
}

# report_figures: the table.
report_figures() {
  local key
  machine[load_after]=$(load)
  machine_order+=(load_before load_after)
  printf '\n%sMachine%s\n' "$bold" "$plain"
  for key in "${machine_order[@]}"; do printf '  %-13s%s\n' "${key/_/ }" "${machine[$key]}"; done
  printf '\n%sFigures%s\n' "$bold" "$plain"
  awk -F '\t' '
    $1 != part { part = $1; print "  " part }
    { goal = $5 == "" ? "" : "goal " $5 " " $4 ": " (met($3, $5) ? "met" : "MISSED")
      printf "    %-80s %10.2f %-6s %s\n", $2, $3, $4, goal }
    function met(value, goal) { return goal ~ /^<=/ ? value + 0 <= substr(goal, 4) + 0 : value + 0 >= substr(goal, 4) + 0 }
  ' "$figures"
}

# write_figures FILE [NOT_MEASURED...]: the same as JSON. Texts are ours or versions; quotes and backslashes are all
# that could go wrong in them.
write_figures() {
  local file=$1 key comma=''
  shift
  mkdir -p "$(dirname "$file")"
  {
    printf '{\n  "machine": {'
    for key in "${machine_order[@]}"; do
      printf '%s\n    "%s": "%s"' "$comma" "$key" "$(escaped <<<"${machine[$key]}")"
      comma=,
    done
    printf '\n  },\n  "figures": ['
    escaped <"$figures" | awk -F '\t' '{
      printf "%s\n    {\"part\": \"%s\", \"what\": \"%s\", \"value\": %s, \"unit\": \"%s\"", (NR > 1 ? "," : ""), $1, $2, $3, $4
      printf "%s}", ($5 == "" ? "" : ", \"goal\": \"" $5 "\"") }'
    printf '\n  ],\n  "not_measured": ['
    printf '%s\n' "$@" | escaped | awk 'NF { printf "%s\"%s\"", (NR > 1 ? ", " : ""), $0 }'
    printf ']\n}\n'
  } >"$file"
}

escaped() { sed 's/\\/\\\\/g; s/"/\\"/g'; }
