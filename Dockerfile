# The server with the inspector, and a place to develop both.
#
#   docker build --tag nanogpt_jax .
#
# compose.yaml uses it, compose.cuda.yaml makes it one for NVIDIA GPUs. What is done here, scripts/
# do, and tests run those without an image; docs/ui.md says more.

FROM node:20-bookworm AS node

FROM node AS ui
WORKDIR /app
COPY scripts/ui scripts/build_ui scripts/
COPY ui ui
COPY nanogpt_jax/serve/__init__.py nanogpt_jax/serve/
RUN scripts/build_ui

FROM python:3.11-bookworm AS dev
COPY --from=node /usr/local/bin/node /usr/local/bin/node
COPY --from=node /usr/local/lib/node_modules /usr/local/lib/node_modules
RUN ln -s ../lib/node_modules/npm/bin/npm-cli.js /usr/local/bin/npm

FROM python:3.11-slim-bookworm AS server
WORKDIR /app
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY scripts scripts
COPY configs configs
COPY nanogpt_jax nanogpt_jax
COPY --from=ui /app/nanogpt_jax/serve/static nanogpt_jax/serve/static
ARG EXTRAS=serve,data,viz
ENV NANOGPT_EXTRAS=$EXTRAS PIP_NO_CACHE_DIR=1
RUN scripts/run true
RUN install --directory --owner=10001 --group=10001 checkpoints cache
# From here on the environment is used as it is: whoever serves may not write to it.
ENV NANOGPT_PYTHON=/app/.venv/bin/python NANOGPT_CACHE=/app/cache HOME=/app/cache PYTHONUNBUFFERED=1
USER 10001:10001
VOLUME ["/app/checkpoints"]
EXPOSE 8787
HEALTHCHECK --interval=15s --start-period=120s CMD ["/app/scripts/ready", "8787"]
ENTRYPOINT ["/app/scripts/run"]
CMD ["python", "-m", "nanogpt_jax.serve", "--workdir=checkpoints", "--latest", "--host=0.0.0.0"]
