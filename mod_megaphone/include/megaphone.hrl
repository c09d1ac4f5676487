%% The package's version: equal to bridge/version.py, which a test compares.
-define(MEGAPHONE_VERSION, <<"0.1.0">>).

%% Bytes. What a frame may hold before the other side's hello has arrived.
-define(HELLO_FRAME, 65536).
