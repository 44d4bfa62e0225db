# The broker in a container. Any base with Python 3.11 or newer and its venv module will do:
#   docker build -t wherry .
#   docker build -t wherry --build-arg BASE=my/python .
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
COPY pyproject.toml README.md LICENSE /src/
COPY client /src/client
COPY broker /src/broker
RUN python3 -m venv /opt/wherry \
    && /opt/wherry/bin/pip install --no-cache-dir '/src[server]' \
    && /opt/wherry/bin/pip uninstall -qy setuptools pip

FROM ${BASE}
COPY --from=build /opt/wherry /opt/wherry
ENV PATH=/opt/wherry/bin:$PATH
# A number, so that an orchestrator can see that it is not root.
RUN mkdir /data && chown 10001:10001 /data
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 7117
STOPSIGNAL SIGTERM
# Shows WHERRY_TOKEN, as the broker asks for it; set WHERRY_URL when the broker listens on another port.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["wherry", "ping"]
ENTRYPOINT ["wherry"]
# Beyond this machine the broker asks for a token: WHERRY_TOKEN, WHERRY_TOKEN_FILE, or WHERRY_INSECURE=true.
CMD ["serve", "--host", "0.0.0.0", "--data", "/data"]
