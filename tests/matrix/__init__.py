"""`make matrix`: the tests in a container of each Debian suite, on its ejabberd and Erlang."""
