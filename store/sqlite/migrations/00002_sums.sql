-- +goose Up
-- "SPWY": whose file this is
PRAGMA application_id = 1397774169;

-- CRC-32C of bucket, key, revision and value; NULL: written before there were sums
ALTER TABLE entries ADD COLUMN sum INTEGER;

-- counter.revision is the highest revision at which a key was deleted: a key that
-- is created begins above it

-- +goose Down
ALTER TABLE entries DROP COLUMN sum;
PRAGMA application_id = 0;
