# An image that is laid out as ProcessOne's: everything below /opt/ejabberd, a volume, and what compiles
# modules. Their own cannot be had without a registry.
ARG BASE
FROM ${BASE}
USER 0:0
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends erlang-dev \
 && rm -rf /var/lib/apt/lists/* \
 && install -d -o ejabberd -g ejabberd /opt/ejabberd /opt/ejabberd/conf /opt/ejabberd/database \
        /opt/ejabberd/logs \
 && cp /etc/ejabberd/inetrc /opt/ejabberd/conf/
COPY processone-entrypoint /usr/local/sbin/
ENV HOME=/opt/ejabberd \
    CONFIG_DIR=/opt/ejabberd/conf \
    SPOOL_DIR=/opt/ejabberd/database \
    LOGS_DIR=/opt/ejabberd/logs \
    ERL_DIST_PORT=5210
VOLUME ["/opt/ejabberd"]
WORKDIR /opt/ejabberd
USER 9000:9000
ENTRYPOINT ["processone-entrypoint"]
CMD ["foreground"]
