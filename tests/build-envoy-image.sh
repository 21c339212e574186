#!/bin/sh
# Builds the image that docker-compose.yml names from an Envoy release binary, for machines that cannot pull it. Like the
# official image it starts Envoy with /etc/envoy/envoy.yaml.
#
#   tests/build-envoy-image.sh [ENVOY-BINARY [IMAGE]]
set -eu

exec "$(dirname "$0")/build-image.sh" "${1:-.tools/envoy}" "${2:-envoyproxy/envoy:v1.40.0}" \
    'ENTRYPOINT ["/usr/local/bin/envoy"]' \
    'CMD ["-c", "/etc/envoy/envoy.yaml"]' \
    'USER 101' \
    'EXPOSE 10000'
