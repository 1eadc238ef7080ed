#!/usr/bin/env bash
# Sets what kernel-tuning.md describes and a running host allows, and takes it back.
#
#   scripts/tune.sh --dry-run      what would change; changes nothing, needs no root
#   scripts/tune.sh --apply        changes it; what was there first is kept in the state file
#   scripts/tune.sh --restore      puts back exactly what was there first
#
#   --nic IFACE    network card that clients come through [default: that of the default route]
#   --cores LIST   cores that the shards run on, such as 2-7; each queue of the card is served by one
#                  of them [default: all that are online]
#   --clients N    clients at the same time, for the memory of TCP [default: 1000]
#   --state FILE   [default: /run/fanfare-tune.state: gone after a restart, as the settings are]
#
# Repeating --apply changes nothing more. What the host does not have is skipped and named. What
# holds beyond a restart (kernel command line, limits, services) is not touched: see
# kernel-tuning.md. `fanfare doctor` shows what is left.
#
# Invariant: a value is in the state file before it is changed, and never replaced there.
set -euo pipefail

root=""
mode=""
nic=""
cores=""
clients=1000
state=""
changes=0
failed=false

# Numbers that `fanfare doctor` asks for as well.
readonly BACKLOG=4096               # LISTEN_BACKLOG of src/limits.rs
readonly SEND_BUFFER_BYTES=262144   # send_buffer_bytes
readonly BUFFER_BYTES=1048576
readonly WAKE_US=10
readonly SWAPPINESS=10

main() {
    while [[ $# -gt 0 ]]; do
        case "$1" in
        --dry-run | --apply | --restore)
            if [[ -n "$mode" ]]; then usage_error "$mode and $1 exclude each other"; fi
            mode="$1"
            shift
            ;;
        --nic | --cores | --clients | --state | --root)
            if [[ $# -lt 2 ]]; then usage_error "$1 needs a value"; fi
            printf -v "${1#--}" '%s' "$2"
            shift 2
            ;;
        -h | --help) usage && exit 0 ;;
        *) usage_error "unknown argument '$1'" ;;
        esac
    done
    if [[ -z "$mode" ]]; then usage_error "one of --dry-run, --apply and --restore is needed"; fi
    if [[ ! "$clients" =~ ^[1-9][0-9]{0,8}$ ]]; then usage_error "--clients: '$clients' is no count"; fi
    state="${state:-$root/run/fanfare-tune.state}"
    # With --root the files are a test's own.
    if [[ "$mode" != --dry-run && -z "$root" && $(id -u) -ne 0 ]]; then
        echo "tune.sh: $mode needs root; try: sudo scripts/tune.sh $mode" >&2
        exit 1
    fi
    if [[ "$mode" == --restore ]]; then restore; else tune; fi
    if $failed; then exit 1; fi
}

usage() {
    sed -n '2,/^set /{s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"
}

usage_error() {
    echo "tune.sh: $1; --help says more" >&2
    exit 2
}

tune() {
    list_cores
    connections
    card
    processors
    memory
    if ((changes == 0)); then echo "nothing to change"; fi
    if [[ "$mode" == --apply && -s "$state" ]]; then
        echo "what was there first is in $state; to put it back: scripts/tune.sh --restore"
    fi
}

# The cores of --cores or those that are online, as numbers in `core_list`.
list_cores() {
    local online
    read -r -a online <<<"$(expand "$(cat "$root/sys/devices/system/cpu/online")")"
    if [[ -z "$cores" ]]; then
        core_list=("${online[@]}")
        return
    fi
    if [[ ! "$cores" =~ ^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$ ]]; then
        usage_error "--cores: '$cores' is not a list such as 0-3,8"
    fi
    read -r -a core_list <<<"$(expand "$cores")"
    local core
    for core in "${core_list[@]}"; do
        if [[ " ${online[*]} " != *" $core "* ]]; then
            usage_error "--cores: core $core is not online; those that are: ${online[*]}"
        fi
    done
}

# expand 0-2,8: 0 1 2 8
expand() {
    local part numbers=() parts
    IFS=, read -r -a parts <<<"$1"
    for part in "${parts[@]}"; do
        local number
        for ((number = 10#${part%-*}; number <= 10#${part#*-}; number++)); do
            numbers+=("$number")
        done
    done
    echo "${numbers[*]}"
}

connections() {
    sysctl_at_least net.core.somaxconn "$BACKLOG"
    if [[ "$(value_of "$root/proc/sys/net/ipv4/tcp_syncookies")" == 0 ]]; then
        sysctl_at_least net.ipv4.tcp_max_syn_backlog "$BACKLOG"
    fi
    sysctl_at_least net.core.wmem_max "$SEND_BUFFER_BYTES"
    sysctl_at_least net.ipv4.tcp_wmem "$BUFFER_BYTES"
    sysctl_at_least net.ipv4.tcp_rmem "$BUFFER_BYTES"
    tcp_memory
    change "$(sysctl_file net.ipv4.tcp_slow_start_after_idle)" 0
}

# Room for the whole send buffer of each client, twice for the kernel's overhead; at most half of
# the memory.
tcp_memory() {
    local file low pressure high page most memory_kib
    file="$(sysctl_file net.ipv4.tcp_mem)"
    page="$(getconf PAGESIZE)"
    if ! read -r low pressure high 2>/dev/null <"$file"; then
        skip "$file" "not there"
        return
    fi
    most=$(((clients * 2 * SEND_BUFFER_BYTES + page - 1) / page))
    memory_kib="$(awk '$1 == "MemTotal:" { print $2 }' "$root/proc/meminfo")"
    if ((most > memory_kib * 512 / page)); then
        most=$((memory_kib * 512 / page))
        echo "note    $clients clients may need more than half of the memory: half is taken; lower" \
            "send_buffer_bytes or the number of clients"
    fi
    if ((high < most)); then
        low=$((low > most / 2 ? low : most / 2))
        pressure=$((pressure > most * 3 / 4 ? pressure : most * 3 / 4))
        change "$file" "$low $pressure $most"
    fi
}

# Queue k of the card is served by the k-th core, and by the same core of the next round.
card() {
    if [[ -z "$nic" ]]; then
        nic="$(awk '$2 == "00000000" { print $1; exit }' "$root/proc/net/route" 2>/dev/null || true)"
    fi
    local folder="$root/sys/class/net/$nic"
    if [[ -z "$nic" ]]; then
        skip "the network card" "no default route; name it with --nic"
        return
    fi
    if [[ ! -e "$folder" ]]; then
        usage_error "--nic: no network card '$nic'; there are: $(ls "$root/sys/class/net")"
    fi
    local receive=("$folder"/queues/rx-*) transmit=("$folder"/queues/tx-*) queue number served
    for queue in "${receive[@]}"; do
        number="${queue##*-}"
        # With a queue for each core the card spreads packets by itself.
        if ((${#receive[@]} >= ${#core_list[@]})); then
            change_mask "$queue/rps_cpus"
        else
            mapfile -t served < <(cores_of_queue "$number" "${#receive[@]}")
            change_mask "$queue/rps_cpus" "${served[@]}"
        fi
    done
    if ((${#transmit[@]} > 1)); then
        for queue in "${transmit[@]}"; do
            number="${queue##*-}"
            mapfile -t served < <(cores_of_queue "$number" "${#transmit[@]}")
            change_mask "$queue/xps_cpus" "${served[@]}"
        done
    fi
    interrupts
}

# cores_of_queue K N: each N-th core, beginning with the K-th; beyond the cores, again from the first.
cores_of_queue() {
    local at count=${#core_list[@]}
    for ((at = $1 % count; at < count; at += $2)); do echo "${core_list[at]}"; done
}

# The interrupts of the card's queues: those of the table with its name or its device's, less those
# of no queue.
interrupts() {
    local device="" next=0 number name queue
    if [[ -e "$root/sys/class/net/$nic/device" ]]; then
        device="$(basename "$(readlink -f "$root/sys/class/net/$nic/device")")"
    fi
    local found=false
    while read -r number name; do
        found=true
        # The number of the queue is at the end of the name, if there is one.
        queue="${name%%@*}"
        queue="${queue##*[!0-9]}"
        change "$root/proc/irq/$number/smp_affinity_list" \
            "${core_list[$((10#${queue:-$next} % ${#core_list[@]}))]}"
        next=$((next + 1))
    done < <(awk -v card="$nic" -v device="$device" '
        function has(text, word,    at, before, after) {
            at = index(text, word)
            if (word == "" || at == 0) return 0
            before = substr(text, at - 1, at > 1)
            after = substr(text, at + length(word), 1)
            return before !~ /[A-Za-z0-9]/ && after !~ /[A-Za-z0-9]/
        }
        $1 ~ /^[0-9]+:$/ && (has($NF, card) || has($NF, device)) &&
            $NF !~ /async|config|control|mgmnt|misc|fdir|event/ { print $1 + 0, $NF }
    ' "$root/proc/interrupts" 2>/dev/null || true)
    if ! $found; then skip "interrupts of $nic" "it has none of its own"; fi
    if $found && grep -qsx irqbalance "$root"/proc/[0-9]*/comm; then
        echo "note    irqbalance runs and will move the interrupts again;" \
            "stop it: sudo systemctl disable --now irqbalance"
    fi
}

processors() {
    local core folder idle
    for core in "${core_list[@]}"; do
        folder="$root/sys/devices/system/cpu/cpu$core"
        if [[ -e "$folder/cpufreq/scaling_governor" ]]; then
            change "$folder/cpufreq/scaling_governor" performance
        fi
        for idle in "$folder"/cpuidle/state*; do
            if [[ -e "$idle/disable" ]] && (($(<"$idle/latency") > WAKE_US)); then
                change "$idle/disable" 1
            fi
        done
    done
    if [[ ! -e "$folder/cpufreq/scaling_governor" ]]; then
        skip "the governor of the frequency" "the kernel does not choose it here"
    fi
    if [[ ! -e "$folder/cpuidle" ]]; then
        skip "idle states" "the kernel does not choose them here"
    fi
}

memory() {
    local file="$root/sys/kernel/mm/transparent_hugepage/enabled"
    if [[ "$(value_of "$file")" == always ]]; then change "$file" madvise; fi
    if (($(wc -l <"$root/proc/swaps") > 1)); then
        file="$(sysctl_file vm.swappiness)"
        if (($(value_of "$file") > SWAPPINESS)); then change "$file" "$SWAPPINESS"; fi
    else
        skip vm.swappiness "no swap"
    fi
    change "$(sysctl_file vm.zone_reclaim_mode)" 0
}

sysctl_file() {
    echo "$root/proc/sys/${1//.//}"
}

# Raises a setting, or the last of its numbers.
sysctl_at_least() {
    local file numbers
    file="$(sysctl_file "$1")"
    read -r -a numbers <<<"$(value_of "$file")"
    if [[ ${#numbers[@]} -eq 0 ]]; then
        skip "$file" "not there"
    elif ((numbers[-1] < $2)); then
        numbers[-1]="$2"
        change "$file" "${numbers[*]}"
    fi
}

# What a file says, its spaces made single; of a choice, the word in brackets.
value_of() {
    local text
    text="$(tr -s '\t\n ' ' ' <"$1" 2>/dev/null)" || true
    if [[ "$text" == *\[*\]* ]]; then text="${text#*\[}" && text="${text%%\]*}"; fi
    echo "${text% }"
}

# change_mask FILE CORE…: the mask of these cores, in words of 32 bits as the kernel wants it.
change_mask() {
    local file="$1" core text="" at words=(0)
    shift
    for core in "$@"; do
        while ((${#words[@]} <= core / 32)); do words+=(0); done
        words[core / 32]=$((words[core / 32] | 1 << core % 32))
    done
    for ((at = ${#words[@]} - 1; at >= 0; at--)); do
        text+="$(printf '%s%x' "${text:+,}" "${words[at]}")"
    done
    # The kernel shows leading zeros that are not needed to write it.
    if [[ "$(short_mask "$(value_of "$file")")" != "$(short_mask "$text")" ]]; then
        change "$file" "$text"
    fi
}

# A mask with every word as a number and without empty ones in front.
short_mask() {
    sed -E 's/(^|,)0+([0-9a-f])/\1\2/g; s/^(0,)+//' <<<"$1"
}

# change FILE VALUE: keeps what is there, unless that was done before, and writes the value.
change() {
    local file="$1" wanted="$2" now
    if [[ ! -e "$file" ]]; then
        skip "$file" "not there"
        return
    fi
    now="$(value_of "$file")"
    if [[ "$now" == "$wanted" ]]; then return; fi
    if [[ ! -w "$file" && $(id -u) -eq 0 ]]; then
        skip "$file" "the kernel does not let it be written here"
        return
    fi
    changes=$((changes + 1))
    echo "change  ${file#"$root"}: $now -> $wanted"
    if [[ "$mode" == --dry-run ]]; then return; fi
    mkdir -p "$(dirname "$state")"
    touch "$state"
    if ! cut -f1 "$state" | grep -qxF "$file"; then
        printf '%s\t%s\n' "$file" "$now" >>"$state"
    fi
    write "$file" "$wanted"
}

write() {
    if ! { printf '%s\n' "$2" >"$1"; } 2>/dev/null; then
        echo "tune.sh: cannot write '$2' into $1" >&2
        failed=true
    fi
}

skip() {
    echo "skip    ${1#"$root"}: $2"
}

restore() {
    if [[ ! -s "$state" ]]; then
        echo "nothing to restore: there is no $state"
        return
    fi
    local file before
    while IFS=$'\t' read -r file before; do
        if [[ ! -e "$file" ]]; then
            skip "$file" "not there any more"
        elif [[ "$(value_of "$file")" != "$before" ]]; then
            echo "restore ${file#"$root"}: $(value_of "$file") -> $before"
            write "$file" "$before"
        fi
    done < <(tac "$state")
    # What could not be put back can be tried again.
    if ! $failed; then rm "$state"; fi
}

main "$@"
