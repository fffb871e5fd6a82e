# One image for all controllers, for those who have a Docker daemon:
#   docker build -t localhost/mainstay:0.1.0 .
# `make image` makes the same image without one.

FROM rust:1.95-bookworm AS builder
WORKDIR /src
COPY . .
# One line a controller below: build it, and put its binary where the next stage takes it from.
RUN cargo build --release --locked -p mainstay-replication \
 && install -D -t /out target/release/mainstay-replication

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=builder /out/ /bin/
# The name nonroot is this number; given as one, runAsNonRoot can check it.
USER 65532:65532
