#!/bin/sh
# Makes an image of a program and the libraries it links to, for machines that cannot pull the one that a compose file names.
#
#   [FILES=FOLDER] tests/build-image.sh BINARY IMAGE [DOCKERFILE-INSTRUCTION…]
set -eu

binary=$(readlink -f "$1")
image=$2
name=$(basename "$1")
shift 2

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/usr/local/bin" "$root/etc/envoy" "$root/tmp" "$root/var/lib"
chmod 755 "$root"
chmod 1777 "$root/tmp" "$root/var/lib"
install -m 755 "$binary" "$root/usr/local/bin/$name"

# What the binary links to, and what the C library loads by itself to resolve names.
{
    ldd "$binary" | grep -o '/[^ ]*'
    libc=$(ldd "$binary" | grep -o '/[^ ]*/libc\.so\.6')
    for library in libnss_files.so.2 libnss_dns.so.2 libresolv.so.2; do
        path=$(dirname "$libc")/$library
        if [ -e "$path" ]; then echo "$path"; fi
    done
} | sort -u | while read -r library; do
    mkdir -p "$root$(dirname "$library")"
    cp -L "$library" "$root$library"
done

# The user of Envoy's official image, and where names are looked up.
echo 'root:x:0:0:root:/root:/bin/sh
envoy:x:101:101:envoy:/home/envoy:/bin/sh' >"$root/etc/passwd"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"

if [ -n "${FILES-}" ]; then cp -R "$FILES/." "$root"; fi

for instruction in "$@"; do
    shift
    set -- "$@" --change "$instruction"
done
tar -C "$root" -c . | docker import "$@" - "$image"
