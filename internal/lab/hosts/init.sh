# PID 1 of a host: takes its place in its groups, makes its view of the machine, and then waits until the power goes. As
# PID 1 it reaps what is left to it. Arguments: NAME DISK CGROUP-VERSION GROUP...
# shellcheck shell=bash
set -euo pipefail

name=$1 disk=$2 version=$3
if [[ $0 != rooted ]]; then
  # The namespace of groups has those as its roots that the process is in when it is made.
  for group in "${@:4}"; do echo 0 >"$group/cgroup.procs"; done
  exec unshare --cgroup -- /bin/bash -c "$BASH_EXECUTION_STRING" rooted "$@"
fi
# A group of v2 with processes in it cannot give its controllers to children: this one's are in a leaf.
if [[ $version == 2 ]]; then echo 0 >"$4/init/cgroup.procs"; fi

mount -n -t proc -o nosuid,nodev,noexec proc /proc  # of our own process numbers; the other mounts look into it
mount -n -a -T "$disk/fstab"
if [[ $version == 2 ]]; then
  read -ra controllers </sys/fs/cgroup/cgroup.controllers || true  # it has no newline when there is none
  for c in "${controllers[@]}"; do echo "+$c" >/sys/fs/cgroup/cgroup.subtree_control || true; done
fi
resolv=$(readlink -m /etc/resolv.conf)
if [[ $resolv == /run/* ]]; then  # the lab's own lies in its /run
  mkdir -p "${resolv%/*}"
  echo 'nameserver 192.0.2.1' >"$resolv"
fi
mkdir -p /run/lock /run/netns /run/podman
echo "$name" >/proc/sys/kernel/hostname

echo ready
# The test holds the other end of stdin: when it is gone, so are we, and with us all processes here.
while read -r _; do :; done
