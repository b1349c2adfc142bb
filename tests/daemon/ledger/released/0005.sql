BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0005');
CREATE TABLE "deliveries" (
	id INTEGER NOT NULL, 
	job_id INTEGER NOT NULL, 
	destination VARCHAR(64) NOT NULL, 
	object VARCHAR(64) NOT NULL, 
	sop_instance_uid VARCHAR(64) NOT NULL, 
	series_instance_uid VARCHAR(64) NOT NULL, 
	path TEXT NOT NULL, 
	confirm VARCHAR(64) NOT NULL, 
	state VARCHAR(64) NOT NULL, 
	attempts INTEGER NOT NULL, 
	not_before DOUBLE, 
	last_status VARCHAR(64), 
	volume_index INTEGER DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_deliveries PRIMARY KEY (id), 
	CONSTRAINT fk_deliveries_job_id FOREIGN KEY(job_id) REFERENCES jobs (id), 
	CONSTRAINT ck_deliveries_state CHECK (state IN ('PENDING', 'STORED', 'CONFIRMED', 'FAILED')), 
	CONSTRAINT uq_deliveries_job_id_destination_sop_instance_uid UNIQUE (job_id, destination, sop_instance_uid)
);
INSERT INTO "deliveries" VALUES(1,4,'archive','seg','9.1.1','9.1','outbox/4/a.dcm','query','STORED',2,5.5,'0x0',0);
INSERT INTO "deliveries" VALUES(2,4,'archive','sr','9.1.2','9.1','outbox/4/a.dcm','query','STORED',2,5.5,'0x0',0);
INSERT INTO "deliveries" VALUES(3,4,'ris','sr','9.1.2','9.1','outbox/4/a.dcm','query','STORED',2,5.5,'0x0',0);
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
	sop_instance_uid VARCHAR(64) NOT NULL, 
	sop_class_uid VARCHAR(64) NOT NULL, 
	transfer_syntax_uid VARCHAR(64) NOT NULL, 
	series_instance_uid VARCHAR(64) NOT NULL, 
	path TEXT NOT NULL, 
	bytes BIGINT NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	received_at DOUBLE NOT NULL, 
	CONSTRAINT pk_instances PRIMARY KEY (sop_instance_uid), 
	CONSTRAINT fk_instances_series_instance_uid FOREIGN KEY(series_instance_uid) REFERENCES series (series_instance_uid)
);
INSERT INTO "instances" VALUES('1.2.3.4','1','1','1.2.3','spool/1.dcm',5000000000,'abc',1000.5);
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
	CONSTRAINT pk_jobs PRIMARY KEY (id), 
	CONSTRAINT fk_jobs_series_instance_uid FOREIGN KEY(series_instance_uid) REFERENCES series (series_instance_uid), 
	CONSTRAINT uq_jobs_series_instance_uid_revision UNIQUE (series_instance_uid, revision), 
	CONSTRAINT ck_jobs_state CHECK (state IN ('RECEIVING', 'RECEIVED', 'SEGMENTED', 'REPORTED', 'DELIVERED', 'COMMITTED', 'REJECTED', 'CANCELLED', 'REFUSED')), 
	CONSTRAINT ck_jobs_reason CHECK (state NOT IN ('REFUSED', 'REJECTED') OR reject_reason IS NOT NULL), 
	CONSTRAINT ck_jobs_no_reason CHECK (state NOT IN ('RECEIVING', 'RECEIVED', 'SEGMENTED') OR reject_reason IS NULL)
);
INSERT INTO "jobs" VALUES(1,'1.2.3','1.2',1,'MODALITY','liver-ct',0,'RECEIVING',NULL,0,NULL,NULL,NULL,NULL,12,'[]',1.0,0,NULL,NULL);
INSERT INTO "jobs" VALUES(2,'1.2.3','1.2',2,'MODALITY','liver-ct',0,'RECEIVED',NULL,0,NULL,NULL,NULL,NULL,12,'[]',1.0,0,NULL,NULL);
INSERT INTO "jobs" VALUES(3,'1.2.3','1.2',3,'MODALITY','liver-ct',0,'SEGMENTED',NULL,0,NULL,NULL,NULL,NULL,12,'[]',1.0,1,NULL,NULL);
INSERT INTO "jobs" VALUES(4,'1.2.3','1.2',4,'MODALITY','liver-ct',0,'REPORTED',NULL,0,NULL,NULL,NULL,NULL,12,'[]',1.0,1,NULL,NULL);
INSERT INTO "jobs" VALUES(5,'1.2.3','1.2',5,'MODALITY','liver-ct',0,'DELIVERED',NULL,0,NULL,NULL,NULL,NULL,12,'[]',1.0,1,NULL,NULL);
INSERT INTO "jobs" VALUES(6,'1.2.3','1.2',6,'MODALITY','liver-ct',0,'COMMITTED',NULL,0,NULL,NULL,NULL,NULL,12,'[]',1.0,1,NULL,NULL);
INSERT INTO "jobs" VALUES(7,'1.2.3','1.2',7,'MODALITY','liver-ct',0,'REJECTED','NOT_CT',0,NULL,NULL,NULL,NULL,12,'[]',1.0,0,NULL,NULL);
INSERT INTO "jobs" VALUES(8,'1.2.3','1.2',8,'MODALITY','liver-ct',0,'CANCELLED',NULL,0,NULL,NULL,NULL,NULL,12,'[]',1.0,0,NULL,NULL);
CREATE TABLE series (
	series_instance_uid VARCHAR(64) NOT NULL, 
	study_instance_uid VARCHAR(64) NOT NULL, 
	calling_ae_title VARCHAR(16) NOT NULL, 
	instances INTEGER NOT NULL, 
	last_received_at DOUBLE NOT NULL, 
	released_at DOUBLE, expected INTEGER, 
	CONSTRAINT pk_series PRIMARY KEY (series_instance_uid)
);
INSERT INTO "series" VALUES('1.2.3','1.2','MODALITY',12,1000.5,NULL,NULL);
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
CREATE INDEX ix_instances_series_instance_uid ON instances (series_instance_uid);
CREATE INDEX ix_events_job_id ON events (job_id);
CREATE INDEX ix_deliveries_state_not_before ON deliveries (state, not_before);
CREATE INDEX ix_shadows_state_not_before ON shadows (state, not_before);
CREATE INDEX ix_jobs_state_not_before ON jobs (state, not_before);
CREATE INDEX ix_jobs_study_instance_uid ON jobs (study_instance_uid);
COMMIT;
