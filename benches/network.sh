#!/bin/sh
# Lease rate of `lxm network serve` against dnsmasq, as LXC starts it, under perfdhcp.
#
# Both serve the same /16 in the same pair of network namespaces, in alternating rounds of one run.
# Prints one line, in four-way exchanges a second: NAME LXM DNSMASQ RATIO, each the median of the
# rounds at the asked rate where that server does best: too much makes one slower. Needs root,
# iproute2, perfdhcp (kea-admin) and dnsmasq; says what is missing and exits 0.
#
# LXM_BIN names the program (target/release/lxm), ROUNDS how often (3), SECONDS_EACH how long (4).
set -eu

lxm=${LXM_BIN:-$(dirname "$0")/../target/release/lxm}
rounds=${ROUNDS:-3}
seconds=${SECONDS_EACH:-4}
asked=${ASKED:-1000 4000 20000}
clients=4000
host=lxm-bench-h.$$
client=lxm-bench-c.$$
dir=$(mktemp -d /var/tmp/lxm-bench-net.XXXXXX)
server=

finish() {
    [ -z "$server" ] || { kill "$server" && wait "$server"; } 2>/dev/null || true
    ip netns delete "$client" 2>/dev/null || true
    ip netns delete "$host" 2>/dev/null || true
    rm -rf "$dir"
}
trap finish EXIT INT TERM

for tool in ip perfdhcp dnsmasq "$lxm"; do
    command -v "$tool" >/dev/null || { echo "lease rate: not measured, there is no $tool"; exit 0; }
done
[ "$(id -u)" = 0 ] || { echo "lease rate: not measured, needs root"; exit 0; }

ip netns add "$host"
ip netns add "$client"
ip -n "$host" link set lo up
ip -n "$host" link add lxmbr0 type bridge
ip -n "$host" address add 10.64.0.1/16 dev lxmbr0
ip -n "$host" link set lxmbr0 up
ip -n "$host" link add lxmport type veth peer name eth0 netns "$client"
ip -n "$host" link set lxmport master lxmbr0 up
ip -n "$client" address add 10.64.255.250/16 dev eth0
ip -n "$client" link set eth0 up
mkdir -p "$dir/etc/lxm" "$dir/dnsmasq"
chmod 755 "$dir"
chmod 777 "$dir/dnsmasq"
printf '[bridge.lxmbr0]\nipv4 = "10.64.0.1/16"\nrange = "10.64.0.2-10.64.250.0"\n' >"$dir/etc/lxm/network.toml"

start_lxm() {
    rm -rf "$dir/var" "$dir/run"
    LXM_ROOT=$dir ip netns exec "$host" "$lxm" network serve lxmbr0 2>"$dir/lxm.log" &
}

start_dnsmasq() {
    rm -f "$dir/dnsmasq/leases"
    ip netns exec "$host" dnsmasq --conf-file=/dev/null --no-ping --keep-in-foreground --no-resolv --port=53 \
        --strict-order --bind-interfaces --listen-address=10.64.0.1 --except-interface=lo --interface=lxmbr0 \
        --pid-file="$dir/dnsmasq/pid" --dhcp-range=10.64.0.2,10.64.250.0 --dhcp-lease-max=64000 \
        --dhcp-no-override --dhcp-authoritative --quiet-dhcp --dhcp-leasefile="$dir/dnsmasq/leases" \
        2>"$dir/dnsmasq.log" &
}

# Four-way exchanges a second that the server called $1 completes when asked for $2.
measure() {
    "start_$1"
    server=$!
    sleep 1
    reached=$(ip netns exec "$client" perfdhcp -4 -r "$2" -R $clients -p "$seconds" -l eth0 10.64.0.1 2>&1 |
        sed -n 's/^Rate: \([0-9.]*\) 4-way.*/\1/p')
    kill "$server"
    wait "$server" 2>/dev/null || true
    server=
    echo "${reached:-0}"
}

for round in $(seq "$rounds"); do
    for rate in $asked; do
        measure lxm "$rate" >>"$dir/lxm.$rate"
        measure dnsmasq "$rate" >>"$dir/dnsmasq.$rate"
    done
done

best() {
    for rate in $asked; do
        sort -g "$dir/$1.$rate" | sed -n "$(((rounds + 1) / 2))p"
    done | sort -g | tail -1
}
awk -v a="$(best lxm)" -v b="$(best dnsmasq)" 'BEGIN {
    printf "%-46s%12.0f%12.0f%8.2f\n", "leases a second (perfdhcp; LXC: dnsmasq)", a, b, (b ? a / b : 0)
}'
