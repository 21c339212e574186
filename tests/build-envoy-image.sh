#!/bin/sh
# Builds the image that docker-compose.yml names from an Envoy release binary and the libraries it links to,
# for machines that cannot pull it. Like the official image it starts Envoy with /etc/envoy/envoy.yaml.
#
#   tests/build-envoy-image.sh [ENVOY-BINARY [IMAGE]]
set -eu

binary=$(readlink -f "${1:-.tools/envoy}")
image=${2:-envoyproxy/envoy:v1.40.0}

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root/usr/local/bin" "$root/etc/envoy" "$root/tmp"
chmod 755 "$root"
chmod 1777 "$root/tmp"
install -m 755 "$binary" "$root/usr/local/bin/envoy"

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

# The official image's user, and where names are looked up.
echo 'root:x:0:0:root:/root:/bin/sh
envoy:x:101:101:envoy:/home/envoy:/bin/sh' >"$root/etc/passwd"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"

tar -C "$root" -c . | docker import \
    --change 'ENTRYPOINT ["/usr/local/bin/envoy"]' \
    --change 'CMD ["-c", "/etc/envoy/envoy.yaml"]' \
    --change 'USER 101' \
    --change 'EXPOSE 10000' \
    - "$image"
