#!/bin/sh
# SPDX-License-Identifier: ISC
# Makes two network namespaces to try nsproxy with: 'public', which has 10.10.10.10, and 'private', which has 172.20.0.2. Nothing connects
# them; only nsproxy carries bytes from one to the other.
set -eu

mark=/run/nsproxy-setup-network		# which namespaces are ours, by inode, and for whom they were made
owner=${NSPROXY_NETWORK_OWNER:-setup-network}
veth=nsproxy-veth

usage()
{
	cat <<'EOT'
usage: setup-network.sh [--veth] [--remove]
  (nothing)  make the network namespaces 'public' (10.10.10.10) and 'private' (172.20.0.2)
  --veth     also join 'public' to the namespace this runs in, so that a browser here reaches 10.10.10.10
  --remove   undo everything
EOT
}

die()
{
	echo "setup-network.sh: $*" >&2
	exit 1
}

inode()
{
	stat -Lc %d:%i "/run/netns/$1" 2>/dev/null || echo none
}

# Is namespace $1 one that we made, for whomever?
is_ours()
{
	grep -qs "^$1 $(inode "$1") " "$mark"
}

refuse_foreign()
{
	for name in public private; do
		if [ -e "/run/netns/$name" ] && ! is_ours "$name"; then
			die "a network namespace '$name' exists that was not made here; left alone, nothing was changed"
		fi
	done
}

# make NAME ADDRESS: on a dummy link, or on the loopback link where the kernel has no dummy driver.
make()
{
	[ -e "/run/netns/$1" ] && return 0
	ip netns add "$1" || die "cannot make the network namespace '$1' (are you root?)"
	echo "$1 $(inode "$1") $owner" >>"$mark"
	ip -n "$1" link set lo up
	if ip -n "$1" link add dummy0 type dummy 2>/dev/null; then
		ip -n "$1" link set dummy0 up
		ip -n "$1" address add "$2/32" dev dummy0
	else
		ip -n "$1" address add "$2/32" dev lo
	fi
}

# A point-to-point link: it brings one route here, to 10.10.10.10, and touches no other address.
make_veth()
{
	grep -q '^veth ' "$mark" && return 0
	ip link add "$veth" type veth peer name eth0 netns public || die "cannot make a veth pair"
	echo "veth $veth $owner" >>"$mark"
	ip -n public link set eth0 up
	ip link set "$veth" up
	ip address add 10.10.10.1 peer 10.10.10.10/32 dev "$veth"
	ip -n public route add 10.10.10.1 dev eth0 src 10.10.10.10
}

remove()
{
	for name in public private; do
		if [ -e "/run/netns/$name" ]; then
			ip netns delete "$name"
		fi
	done
	# The pair dies with 'public', but only once nothing holds that namespace any more.
	if grep -qs '^veth ' "$mark" && ip link show "$veth" >/dev/null 2>&1; then
		ip link delete "$veth"
	fi
	rm -f "$mark"
}

main()
{
	want_veth=no
	want_remove=no
	for word; do
		case $word in
		--veth) want_veth=yes ;;
		--remove) want_remove=yes ;;
		-h | --help)
			usage
			exit 0
			;;
		*)
			usage >&2
			exit 2
			;;
		esac
	done
	command -v ip >/dev/null || die "ip is missing; install it with: apt-get install iproute2"
	refuse_foreign
	if [ "$want_remove" = yes ]; then
		remove
		return
	fi
	make public 10.10.10.10
	make private 172.20.0.2
	if [ "$want_veth" = yes ]; then
		make_veth
	fi
}

main "$@"
