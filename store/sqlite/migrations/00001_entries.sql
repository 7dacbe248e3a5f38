-- +goose Up
CREATE TABLE entries (
    bucket   TEXT NOT NULL,
    key      TEXT NOT NULL,
    revision INTEGER NOT NULL,
    value    BLOB NOT NULL,
    PRIMARY KEY (bucket, key)
) WITHOUT ROWID;

-- the last revision that was given out: revisions never repeat in a store
CREATE TABLE counter (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    revision INTEGER NOT NULL
);
INSERT INTO counter (id, revision) VALUES (1, 0);

-- +goose Down
DROP TABLE counter;
DROP TABLE entries;
