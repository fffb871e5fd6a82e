# One image for all controllers, for those who have a Docker daemon:
#   docker build -t localhost/mainstay:0.1.0 .
# `make image` makes the same image without one.

FROM rust:1.95-bookworm AS builder
WORKDIR /src
COPY . .
# Each controller is named twice: to be built, and to have its binary put where the next stage takes it from.
RUN cargo build --release --locked -p mainstay-replication -p mainstay-endpoints \
    -p mainstay-node-health -p mainstay-config-rollout -p mainstay-accounts \
 && install -D -t /out target/release/mainstay-replication target/release/mainstay-endpoints \
    target/release/mainstay-node-health target/release/mainstay-config-rollout \
    target/release/mainstay-accounts

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=builder /out/ /bin/
# The name nonroot is this number; given as one, runAsNonRoot can check it.
USER 65532:65532
