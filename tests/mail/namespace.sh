#!/usr/bin/env bash
# Runs a program on this system's files with those of packages and of a folder over them; nothing of that is written to the system.
#
#   namespace.sh PACKAGES FOLDER PROGRAM...
#
# FOLDER is seen as it is, FOLDER/overlay over the system. The network is shared. Called as the first process of a PID namespace,
# which ends every process in it when it ends itself, and in a mount namespace of its own.
set -euo pipefail
packages=$1 folder=$2
shift 2
mount -t tmpfs tmpfs "$folder/mount"
mkdir "$folder"/mount/{upper,work,root}
cp -a "$packages/." "$folder/overlay/." "$folder/mount/upper"
chmod 755 "$folder"/mount/{,upper}
root=$folder/mount/root
mount -t overlay overlay -o "lowerdir=/,upperdir=$folder/mount/upper,workdir=$folder/mount/work" "$root"
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
mkdir -p "$root$folder"
mount --bind "$folder" "$root$folder"
# Not `exec`: this process must keep its rights, or the kernel forgets to end it with its parent.
chroot "$root" "$@"
