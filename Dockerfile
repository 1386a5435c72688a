# dbctl with the drivers of all servers and their client programs; see docs/how-to/run-in-docker.md.
FROM python:3.13-slim-trixie AS build
WORKDIR /source
COPY . .
RUN python -m venv /opt/dbctl \
    && /opt/dbctl/bin/pip install --no-cache-dir '.[all]'

FROM python:3.13-slim-trixie
LABEL org.opencontainers.image.title="dbctl" \
      org.opencontainers.image.source="https://github.com/dbctl/dbctl" \
      org.opencontainers.image.licenses="MIT"
# Programs of PostgreSQL 18 back up every older server; those of 17 write dumps that the servers of Debian 13 can read.
# The distribution removes old versions of packages, so that pinned versions would soon fail.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates postgresql-common mariadb-client rdiff \
    && /usr/share/postgresql-common/pgdg/apt.postgresql.org.sh -y \
    && apt-get install --yes --no-install-recommends postgresql-client-17 postgresql-client-18 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home --home-dir /var/lib/dbctl dbctl \
    # a new volume has the owner of the folder over which it is mounted
    && install --directory --owner dbctl --group dbctl /var/lib/dbctl/backups /var/lib/dbctl/.local/state/dbctl
COPY --from=build /opt/dbctl /opt/dbctl
ENV PATH="/opt/dbctl/bin:$PATH" \
    DBCTL_CONFIG=/etc/dbctl/dbctl.toml
USER 10001
WORKDIR /var/lib/dbctl
ENTRYPOINT ["dbctl"]
CMD ["--help"]
