# One image for all controllers, for those who have a Docker daemon:
#   docker build -t localhost/mainstay:0.1.0 .
# `make image` makes the same image without one.

FROM rust:1.95-bookworm AS builder
WORKDIR /src
COPY . .
RUN cargo build --release --locked -p mainstay

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=builder /src/target/release/mainstay /bin/mainstay
# The name nonroot is this number; given as one, runAsNonRoot can check it.
USER 65532:65532
ENTRYPOINT ["/bin/mainstay"]
