# ejabberd's image with sessions that only count what they get (bench/broadcast/megaphone_bench.erl).
ARG BASE
FROM ${BASE}
USER 0:0
COPY megaphone_bench.erl /tmp/sinks/
RUN ERL_LIBS=$(sed -n "s/^ERL_LIBS='\(.*\)'$/\1/p" /usr/sbin/ejabberdctl) \
 && export ERL_LIBS \
 && xmpp=$(erl -noinput -eval 'io:put_chars(filename:dirname(code:which(xmpp))), halt().') \
 && install -d /usr/local/lib/sinks \
 && erlc -I "$xmpp/../include" -o /usr/local/lib/sinks /tmp/sinks/megaphone_bench.erl
USER 9000:9000
