-- Rows of the document variant. Every password is "correct horse", except that of the last user, which matches no password.
INSERT INTO users (id, email, password_hash, name, role, is_active, last_login_at, created_at, updated_at) VALUES
    ('aaaaaaaa-0000-4000-8000-000000000001', 'boss@waqtor.example', '$2b$04$dbctlSampleSaltTests.OzTIfHMNjQZel0ETqImA7ZfoSSN2sovy', 'Boss', 'admin', true, '2025-11-10 08:15:30.123', '2025-10-02 08:15:30.123', '2025-11-01 08:15:30.123'),
    ('aaaaaaaa-0000-4000-8000-000000000002', 'ana@waqtor.example', '$2b$04$dbctlSampleSaltTests.OzTIfHMNjQZel0ETqImA7ZfoSSN2sovy', 'Ana 安', 'user', true, '2025-11-05 08:15:30.123', '2025-10-03 08:15:30.123', '2025-11-01 08:15:30.123'),
    ('aaaaaaaa-0000-4000-8000-000000000003', 'Vic@waqtor.example', '$2b$04$dbctlSampleSaltTests.OzTIfHMNjQZel0ETqImA7ZfoSSN2sovy', NULL, 'viewer', true, NULL, '2025-10-04 08:15:30.123', '2025-11-01 08:15:30.123'),
    ('aaaaaaaa-0000-4000-8000-000000000004', 'off@waqtor.example', '$2b$04$dbctlSampleSaltTests.OzTIfHMNjQZel0ETqImA7ZfoSSN2sovy', 'Off', 'user', false, NULL, '2025-10-05 08:15:30.123', '2025-11-01 08:15:30.123'),
    ('aaaaaaaa-0000-4000-8000-000000000005', 'admin@waqtor.local', '$2b$10$dummy.hash.for.default.admin.user.that.cannot.log.in', 'System Admin', 'admin', true, NULL, '2025-10-06 08:15:30.123', '2025-11-01 08:15:30.123');
INSERT INTO whatsapp_sessions (id, user_id, session_name, status, phone_number, session_data, qr_code, created_at, updated_at) VALUES
    ('bbbbbbbb-0000-4000-8000-000000000001', 'aaaaaaaa-0000-4000-8000-000000000002', 'ana-main', 'ready', '4915100001', 'SESSION-SECRET', NULL, '2025-10-12 08:15:30.123', '2025-11-10 08:15:30.123'),
    ('bbbbbbbb-0000-4000-8000-000000000002', 'aaaaaaaa-0000-4000-8000-000000000002', 'ana-old', 'disconnected', NULL, NULL, 'QR-SECRET', '2025-10-13 08:15:30.123', '2025-11-01 08:15:30.123'),
    ('bbbbbbbb-0000-4000-8000-000000000003', 'aaaaaaaa-0000-4000-8000-000000000001', 'boss', 'ready', '4915100002', NULL, NULL, '2025-10-14 08:15:30.123', now() at time zone 'utc');
INSERT INTO messages (id, user_id, session_id, message_id, phone_number, message_text, media_url, status, ack_status, error_message, metadata, created_at, updated_at) VALUES
    ('cccccccc-0000-4000-8000-000000000001', 'aaaaaaaa-0000-4000-8000-000000000002', 'bbbbbbbb-0000-4000-8000-000000000001', 'true_0', '491700001', 'Hello 100% "you"', NULL, 'sent', 1, NULL, '{"i": 0}', '2025-10-21 08:15:30.123', '2025-10-21 08:15:30.123'),
    ('cccccccc-0000-4000-8000-000000000002', 'aaaaaaaa-0000-4000-8000-000000000001', 'bbbbbbbb-0000-4000-8000-000000000003', 'true_1', '491700002@c.us', 'Grüße 🎉', NULL, 'delivered', 2, NULL, '{"i": 1}', '2025-10-22 08:15:30.123', '2025-10-22 08:15:30.123'),
    ('cccccccc-0000-4000-8000-000000000003', 'aaaaaaaa-0000-4000-8000-000000000002', 'bbbbbbbb-0000-4000-8000-000000000001', 'true_2', '491700003', 'failed one', NULL, 'failed', -1, 'no such number', NULL, '2025-10-23 08:15:30.123', '2025-10-23 08:15:30.123'),
    ('cccccccc-0000-4000-8000-000000000004', 'aaaaaaaa-0000-4000-8000-000000000001', NULL, 'true_3', '491700001', 'read it', 'https://x.example/a.png', 'read', 3, NULL, NULL, '2025-10-24 08:15:30.123', '2025-10-24 08:15:30.123'),
    ('cccccccc-0000-4000-8000-000000000005', 'aaaaaaaa-0000-4000-8000-000000000002', 'bbbbbbbb-0000-4000-8000-000000000001', NULL, '491700004', NULL, NULL, 'pending', 0, NULL, NULL, '2025-10-25 08:15:30.123', '2025-10-25 08:15:30.123');
INSERT INTO campaigns (id, user_id, session_id, name, message_template, status, total_recipients, sent_count, failed_count, started_at, completed_at, metadata, created_at, updated_at) VALUES
    ('dddddddd-0000-4000-8000-000000000001', 'aaaaaaaa-0000-4000-8000-000000000002', 'bbbbbbbb-0000-4000-8000-000000000001', 'Spring', 'Hi {{name}}', 'completed', 2, 2, 0, '2025-10-25 08:15:30.123', '2025-10-25 09:15:30.123', NULL, '2025-10-24 08:15:30.123', '2025-10-25 09:15:30.123'),
    ('dddddddd-0000-4000-8000-000000000002', 'aaaaaaaa-0000-4000-8000-000000000002', 'bbbbbbbb-0000-4000-8000-000000000001', 'Stuck', 'Hi {{name}}', 'running', 2, 0, 0, '2025-10-26 08:15:30.123', NULL, NULL, '2025-10-25 08:15:30.123', '2025-10-26 08:15:30.123'),
    ('dddddddd-0000-4000-8000-000000000003', 'aaaaaaaa-0000-4000-8000-000000000001', NULL, 'Draft', 'Hi {{name}}', 'draft', 2, 0, 0, NULL, NULL, NULL, '2025-10-26 08:15:30.123', '2025-10-26 08:15:30.123'),
    ('dddddddd-0000-4000-8000-000000000004', 'aaaaaaaa-0000-4000-8000-000000000001', 'bbbbbbbb-0000-4000-8000-000000000003', 'Under way', 'Hi {{name}}', 'running', 2, 1, 0, '2025-10-27 08:15:30.123', NULL, NULL, '2025-10-27 08:15:30.123', '2025-10-27 08:15:30.123');
INSERT INTO recipients (id, user_id, phone_number, name, custom_fields, status, created_at, updated_at) VALUES
    ('eeeeeeee-0000-4000-8000-000000000001', 'aaaaaaaa-0000-4000-8000-000000000002', '491700001', 'Kim', '{"city": "Köln"}', 'active', '2025-10-16 08:15:30.123', '2025-10-16 08:15:30.123'),
    ('eeeeeeee-0000-4000-8000-000000000002', 'aaaaaaaa-0000-4000-8000-000000000002', '491700002', 'Lee', NULL, 'active', '2025-10-16 08:15:30.123', '2025-10-16 08:15:30.123'),
    ('eeeeeeee-0000-4000-8000-000000000003', 'aaaaaaaa-0000-4000-8000-000000000001', '491700001', 'Kim of Boss', NULL, 'blocked', '2025-10-16 08:15:30.123', '2025-10-16 08:15:30.123');
INSERT INTO groups (id, user_id, name, description, created_at, updated_at) VALUES
    ('99999999-0000-4000-8000-000000000001', 'aaaaaaaa-0000-4000-8000-000000000002', 'Friends', 'of Ana', '2025-10-17 08:15:30.123', '2025-10-17 08:15:30.123'),
    ('99999999-0000-4000-8000-000000000002', 'aaaaaaaa-0000-4000-8000-000000000001', 'Friends', NULL, '2025-10-17 08:15:30.123', '2025-10-17 08:15:30.123');
INSERT INTO recipient_groups (recipient_id, group_id, created_at) VALUES
    ('eeeeeeee-0000-4000-8000-000000000001', '99999999-0000-4000-8000-000000000001', '2025-10-18 08:15:30.123'),
    ('eeeeeeee-0000-4000-8000-000000000002', '99999999-0000-4000-8000-000000000001', '2025-10-18 08:15:30.123'),
    ('eeeeeeee-0000-4000-8000-000000000003', '99999999-0000-4000-8000-000000000002', '2025-10-18 08:15:30.123');
