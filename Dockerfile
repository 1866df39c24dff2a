# One image for every role: serve, worker, migrate, and the simulated station.
FROM python:3.11-slim

RUN useradd --create-home gymnast && mkdir /data && chown gymnast /data
WORKDIR /srv/gymnastd
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY daemon daemon
COPY robot_bridge robot_bridge
COPY storage storage
COPY migrations migrations
RUN pip install --no-cache-dir -c constraints.txt torch \
 && pip install --no-cache-dir -c constraints.txt '.[sim,interchange,otel]'

USER gymnast
ENV GYMNASTD_DATA_DIR=/data OMP_WAIT_POLICY=PASSIVE
VOLUME /data
EXPOSE 8400
CMD ["gymnastd", "serve"]
