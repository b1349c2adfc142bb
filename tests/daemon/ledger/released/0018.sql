BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0018');
CREATE TABLE audit (
	id INTEGER NOT NULL, 
	at DOUBLE NOT NULL, 
	user VARCHAR(64) NOT NULL, 
	action VARCHAR(64) NOT NULL, 
	host VARCHAR(64) NOT NULL, 
	code VARCHAR(64), 
	job_id INTEGER, 
	study_instance_uid VARCHAR(64), 
	CONSTRAINT pk_audit PRIMARY KEY (id)
);
CREATE TABLE commitments (
	id INTEGER NOT NULL, 
	transaction_uid VARCHAR(64) NOT NULL, 
	delivery_id INTEGER NOT NULL, 
	requested_at DOUBLE NOT NULL, 
	reported_at DOUBLE, 
	failure VARCHAR(64), 
	CONSTRAINT pk_commitments PRIMARY KEY (id), 
	CONSTRAINT fk_commitments_delivery_id FOREIGN KEY(delivery_id) REFERENCES deliveries (id), 
	CONSTRAINT uq_commitments_transaction_uid_delivery_id UNIQUE (transaction_uid, delivery_id)
);
CREATE TABLE corrections (
	id INTEGER NOT NULL, 
	sop_instance_uid VARCHAR(64) NOT NULL, 
	series_instance_uid VARCHAR(64) NOT NULL, 
	study_instance_uid VARCHAR(64) NOT NULL, 
	calling_ae_title VARCHAR(16) NOT NULL, 
	path TEXT NOT NULL, 
	bytes BIGINT NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	received_at DOUBLE NOT NULL, 
	state VARCHAR(64) NOT NULL, 
	attempts INTEGER DEFAULT '0' NOT NULL, 
	not_before DOUBLE, 
	code VARCHAR(64), 
	job_id INTEGER, 
	model VARCHAR(160), 
	version VARCHAR(160), 
	model_sha256 VARCHAR(64), 
	volumes TEXT, 
	CONSTRAINT pk_corrections PRIMARY KEY (id), 
	CONSTRAINT ck_corrections_state CHECK (state IN ('PENDING', 'SCORED', 'FAILED')), 
	CONSTRAINT fk_corrections_series_instance_uid FOREIGN KEY(series_instance_uid) REFERENCES series (series_instance_uid), 
	CONSTRAINT fk_corrections_job_id FOREIGN KEY(job_id) REFERENCES jobs (id), 
	CONSTRAINT uq_corrections_sop_instance_uid UNIQUE (sop_instance_uid)
);
CREATE TABLE "deliveries" (
	id INTEGER NOT NULL, 
	job_id INTEGER NOT NULL, 
	destination VARCHAR(64) NOT NULL, 
	kind VARCHAR(64) NOT NULL, 
	sop_instance_uid VARCHAR(64) NOT NULL, 
	series_instance_uid VARCHAR(64) NOT NULL, 
	path TEXT NOT NULL, 
	confirm VARCHAR(64) NOT NULL, 
	state VARCHAR(64) NOT NULL, 
	attempts INTEGER NOT NULL, 
	not_before DOUBLE, 
	last_status VARCHAR(64), 
	volume_index INTEGER DEFAULT '0' NOT NULL, 
	waited_s DOUBLE DEFAULT '0' NOT NULL, 
	halt VARCHAR(64), 
	sha256 VARCHAR(64), 
	seg_type VARCHAR(64), 
	sr_class VARCHAR(64), 
	study_instance_uid VARCHAR(64), 
	not_committed INTEGER DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_deliveries PRIMARY KEY (id), 
	CONSTRAINT fk_deliveries_job_id FOREIGN KEY(job_id) REFERENCES jobs (id), 
	CONSTRAINT uq_deliveries_job_id_destination_sop_instance_uid UNIQUE (job_id, destination, sop_instance_uid), 
	CONSTRAINT ck_deliveries_state CHECK (state IN ('PENDING', 'STORED', 'CONFIRMED', 'FAILED', 'KEPT'))
);
INSERT INTO "deliveries" VALUES(1,4,'archive','seg','9.1.1','9.1','outbox/4/a.dcm','query','STORED',2,5.5,'0x0',0,0.0,NULL,NULL,'binary',NULL,NULL,0);
INSERT INTO "deliveries" VALUES(2,4,'archive','sr','9.1.2','9.1','outbox/4/a.dcm','query','STORED',2,5.5,'0x0',0,0.0,NULL,NULL,'binary','comprehensive_3d',NULL,0);
INSERT INTO "deliveries" VALUES(3,4,'ris','sr','9.1.2','9.1','outbox/4/a.dcm','query','STORED',2,5.5,'0x0',0,0.0,NULL,NULL,'binary','comprehensive_3d',NULL,0);
CREATE TABLE events (
	id INTEGER NOT NULL, 
	job_id INTEGER NOT NULL, 
	at DOUBLE NOT NULL, 
	event VARCHAR(64) NOT NULL, 
	from_state VARCHAR(64), 
	to_state VARCHAR(64), 
	code VARCHAR(64), 
	CONSTRAINT pk_events PRIMARY KEY (id), 
	CONSTRAINT fk_events_job_id FOREIGN KEY(job_id) REFERENCES jobs (id)
);
INSERT INTO "events" VALUES(1,4,1000.5,'OPENED',NULL,NULL,NULL);
CREATE TABLE instances (
	id INTEGER NOT NULL, 
	study_instance_uid VARCHAR(64) NOT NULL, 
	series_instance_uid VARCHAR(64) NOT NULL, 
	sop_instance_uid VARCHAR(64) NOT NULL, 
	version INTEGER DEFAULT '1' NOT NULL, 
	replaced_by INTEGER, 
	sop_class_uid VARCHAR(64) NOT NULL, 
	transfer_syntax_uid VARCHAR(64) NOT NULL, 
	path TEXT NOT NULL, 
	bytes BIGINT NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	received_at DOUBLE NOT NULL, removed_at DOUBLE, 
	CONSTRAINT pk_instances PRIMARY KEY (id), 
	CONSTRAINT fk_instances_replaced_by FOREIGN KEY(replaced_by) REFERENCES instances (id), 
	CONSTRAINT fk_instances_series_instance_uid FOREIGN KEY(series_instance_uid) REFERENCES series (series_instance_uid), 
	CONSTRAINT uq_instances_series_instance_uid_sop_instance_uid_version UNIQUE (series_instance_uid, sop_instance_uid, version)
);
INSERT INTO "instances" VALUES(1,'1.2','1.2.3','1.2.3.4',1,NULL,'1','1','spool/1.dcm',5000000000,'abc',1000.5,NULL);
CREATE TABLE "jobs" (
	id INTEGER NOT NULL, 
	series_instance_uid VARCHAR(64) NOT NULL, 
	study_instance_uid VARCHAR(64) NOT NULL, 
	revision INTEGER NOT NULL, 
	calling_ae_title VARCHAR(16) NOT NULL, 
	rule VARCHAR(64), 
	priority INTEGER NOT NULL, 
	state VARCHAR(64) NOT NULL, 
	reject_reason VARCHAR(64), 
	attempts INTEGER NOT NULL, 
	not_before DOUBLE, 
	lease VARCHAR(128), 
	lease_until DOUBLE, 
	halt VARCHAR(64), 
	instances INTEGER NOT NULL, 
	warnings TEXT NOT NULL, 
	created_at DOUBLE NOT NULL, 
	chosen BOOLEAN DEFAULT 0 NOT NULL, 
	replaces_series_instance_uid VARCHAR(64), 
	replaces_revision INTEGER, 
	before_instance INTEGER, removed_at DOUBLE, 
	CONSTRAINT pk_jobs PRIMARY KEY (id), 
	CONSTRAINT uq_jobs_series_instance_uid_revision UNIQUE (series_instance_uid, revision), 
	CONSTRAINT fk_jobs_series_instance_uid FOREIGN KEY(series_instance_uid) REFERENCES series (series_instance_uid), 
	CONSTRAINT ck_jobs_no_reason CHECK (state NOT IN ('RECEIVING', 'RECEIVED', 'SEGMENTED') OR reject_reason IS NULL), 
	CONSTRAINT ck_jobs_reason CHECK (state NOT IN ('REFUSED', 'REJECTED') OR reject_reason IS NOT NULL), 
	CONSTRAINT ck_jobs_state CHECK (state IN ('RECEIVING', 'RECEIVED', 'SEGMENTED', 'REFUSED', 'REPORTED', 'DELIVERED', 'REJECTED', 'CANCELLED', 'CONFIRMED'))
);
INSERT INTO "jobs" VALUES(1,'1.2.3','1.2',1,'MODALITY','liver-ct',0,'RECEIVING',NULL,0,NULL,NULL,NULL,NULL,12,'[]',1.0,0,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(2,'1.2.3','1.2',2,'MODALITY','liver-ct',0,'RECEIVED',NULL,0,NULL,NULL,NULL,NULL,12,'[]',1.0,0,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(3,'1.2.3','1.2',3,'MODALITY','liver-ct',0,'SEGMENTED',NULL,0,NULL,NULL,NULL,NULL,12,'[]',1.0,1,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(4,'1.2.3','1.2',4,'MODALITY','liver-ct',0,'REPORTED',NULL,0,NULL,NULL,NULL,NULL,12,'[]',1.0,1,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(5,'1.2.3','1.2',5,'MODALITY','liver-ct',0,'DELIVERED',NULL,0,NULL,NULL,NULL,NULL,12,'[]',1.0,1,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(6,'1.2.3','1.2',6,'MODALITY','liver-ct',0,'DELIVERED',NULL,0,NULL,NULL,NULL,NULL,12,'[]',1.0,1,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(7,'1.2.3','1.2',7,'MODALITY','liver-ct',0,'REJECTED','NOT_CT',0,NULL,NULL,NULL,NULL,12,'[]',1.0,0,NULL,NULL,NULL,NULL);
INSERT INTO "jobs" VALUES(8,'1.2.3','1.2',8,'MODALITY','liver-ct',0,'CANCELLED',NULL,0,NULL,NULL,NULL,NULL,12,'[]',1.0,0,NULL,NULL,NULL,NULL);
CREATE TABLE refusals (
	id INTEGER NOT NULL, 
	kind VARCHAR(64) NOT NULL, 
	reason VARCHAR(64) NOT NULL, 
	calling_ae_title VARCHAR(16) NOT NULL, 
	called_ae_title VARCHAR(16) NOT NULL, 
	host VARCHAR(64) NOT NULL, 
	count INTEGER NOT NULL, 
	first_at DOUBLE NOT NULL, 
	last_at DOUBLE NOT NULL, 
	CONSTRAINT pk_refusals PRIMARY KEY (id), 
	CONSTRAINT uq_refusals_kind_reason_calling_ae_title_called_ae_title_host UNIQUE (kind, reason, calling_ae_title, called_ae_title, host)
);
CREATE TABLE root (
	id INTEGER NOT NULL, 
	identity VARCHAR(64) NOT NULL, 
	place TEXT NOT NULL, 
	CONSTRAINT pk_root PRIMARY KEY (id)
);
CREATE TABLE series (
	series_instance_uid VARCHAR(64) NOT NULL, 
	study_instance_uid VARCHAR(64) NOT NULL, 
	calling_ae_title VARCHAR(16) NOT NULL, 
	instances INTEGER NOT NULL, 
	last_received_at DOUBLE NOT NULL, 
	released_at DOUBLE, expected INTEGER, expected_at DOUBLE, longest_pause_s DOUBLE DEFAULT '0' NOT NULL, broken_off BOOLEAN DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_series PRIMARY KEY (series_instance_uid)
);
INSERT INTO "series" VALUES('1.2.3','1.2','MODALITY',12,1000.5,NULL,NULL,NULL,0.0,0);
CREATE TABLE sessions (
	digest VARCHAR(64) NOT NULL, 
	user VARCHAR(64) NOT NULL, 
	opened_at DOUBLE NOT NULL, 
	seen_at DOUBLE NOT NULL, 
	CONSTRAINT pk_sessions PRIMARY KEY (digest), 
	CONSTRAINT fk_sessions_user FOREIGN KEY(user) REFERENCES users (name)
);
CREATE TABLE shadows (
	id INTEGER NOT NULL, 
	job_id INTEGER NOT NULL, 
	model VARCHAR(160) NOT NULL, 
	state VARCHAR(64) NOT NULL, 
	attempts INTEGER NOT NULL, 
	not_before DOUBLE, 
	code VARCHAR(64), 
	version VARCHAR(160), 
	sha256 VARCHAR(64), 
	volumes TEXT, 
	CONSTRAINT pk_shadows PRIMARY KEY (id), 
	CONSTRAINT ck_shadows_state CHECK (state IN ('PENDING', 'COMPARED', 'FAILED')), 
	CONSTRAINT fk_shadows_job_id FOREIGN KEY(job_id) REFERENCES jobs (id), 
	CONSTRAINT uq_shadows_job_id_model UNIQUE (job_id, model)
);
CREATE TABLE users (
	name VARCHAR(64) NOT NULL, 
	role VARCHAR(64) NOT NULL, 
	password_hash VARCHAR(255), 
	created_at DOUBLE NOT NULL, 
	failures INTEGER DEFAULT '0' NOT NULL, 
	locked_until DOUBLE, 
	CONSTRAINT pk_users PRIMARY KEY (name)
);
CREATE INDEX ix_events_job_id ON events (job_id);
CREATE INDEX ix_shadows_state_not_before ON shadows (state, not_before);
CREATE INDEX ix_series_study_instance_uid ON series (study_instance_uid);
CREATE INDEX ix_commitments_delivery_id ON commitments (delivery_id);
CREATE INDEX ix_jobs_created_at ON jobs (created_at);
CREATE INDEX ix_jobs_state_not_before ON jobs (state, not_before);
CREATE INDEX ix_jobs_study_instance_uid ON jobs (study_instance_uid);
CREATE INDEX ix_deliveries_state_not_before ON deliveries (state, not_before);
CREATE INDEX ix_deliveries_series_instance_uid ON deliveries (series_instance_uid);
CREATE INDEX ix_corrections_series_instance_uid ON corrections (series_instance_uid);
CREATE INDEX ix_corrections_state ON corrections (state);
COMMIT;
