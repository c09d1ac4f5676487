# A machine with systemd, Debian's ejabberd as it is installed there, and Megaphone in /opt.
ARG MEGAPHONE
ARG SUITE=bookworm
FROM ${MEGAPHONE} AS megaphone

FROM debian:${SUITE}-slim
RUN printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d \
 && apt-get -q update \
 && DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install \
        systemd systemd-sysv dbus procps python3 ejabberd erlang-dev openssl \
 && rm -rf /var/lib/apt/lists/* /usr/sbin/policy-rc.d
COPY --from=megaphone /opt/megaphone /opt/megaphone
ENV PATH=/opt/megaphone/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
CMD ["/sbin/init"]
