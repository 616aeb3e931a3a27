-- What the vSphere mirror remembers: the newest event that was applied to each host, and who handles a host now.
-- depends: 0001.ledger

-- resource: the identifier in Operations. event_number: the event's Key, or 0 where that is no number.
CREATE TABLE vsphere_applied (
    resource     text COLLATE "C" PRIMARY KEY,
    host         text NOT NULL,
    action       text NOT NULL,
    vcenter      text NOT NULL,
    event_key    text NOT NULL,
    event_time   timestamptz NOT NULL,
    event_number bigint NOT NULL,
    applied_at   timestamptz NOT NULL DEFAULT now()
);

COMMENT ON TABLE vsphere_applied IS 'One row for each host: the newest event of vCenter that was mirrored to Operations.';

-- A turn whose time is over is free, whoever has it.
CREATE TABLE vsphere_turns (
    host  text COLLATE "C" PRIMARY KEY,
    owner text NOT NULL,
    until timestamptz NOT NULL
);

COMMENT ON TABLE vsphere_turns IS 'Hosts that an event is being handled for now.';
