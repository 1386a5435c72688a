// WaQtor by models of Sequelize: `node waqtor.cjs URL register|sign-in EMAIL PASSWORD`. A sign-in prints what the pages of the user show.
const { compareSync, hashSync } = require("bcryptjs");
const { DataTypes, Sequelize } = require("sequelize");

const [url, command, email, password] = process.argv.slice(2);
const sequelize = new Sequelize(url, { logging: false, define: { underscored: true } });
const { ARRAY, BOOLEAN, DATE, ENUM, INTEGER, JSONB, STRING, TEXT, UUID, UUIDV4 } = DataTypes;
const id = { type: UUID, primaryKey: true, defaultValue: UUIDV4 };

function define(name, tableName, columns, options) {
  return sequelize.define(name, columns, { tableName, ...options });
}

const User = define("User", "users", {
  id,
  email: { type: STRING, allowNull: false, unique: true, validate: { isEmail: true } },
  password_hash: { type: STRING, allowNull: false },
  name: STRING,
  role: { type: ENUM("admin", "user", "viewer"), allowNull: false, defaultValue: "user" },
  is_active: { type: BOOLEAN, defaultValue: true },
  last_login_at: DATE,
});
const Session = define("Session", "whatsapp_sessions", {
  id,
  client_id: { type: STRING, allowNull: false, unique: true },
  name: STRING,
  phone_number: STRING(50),
  qr_code: TEXT,
  session_data: JSONB,
});
const Message = define("Message", "messages", {
  id,
  to_phone: { type: STRING(50), allowNull: false },
  body: TEXT,
  status: { type: ENUM("pending", "sent", "delivered", "read", "failed"), defaultValue: "pending" },
});
const Recipient = define("Recipient", "recipients", {
  id,
  phone: { type: STRING(50), allowNull: false },
  name: STRING,
  email: { type: STRING, validate: { isEmail: true } },
  tags: ARRAY(STRING),
  custom_fields: JSONB,
});
const Token = define("Token", "refresh_tokens", {
  id: { type: INTEGER, primaryKey: true, autoIncrement: true },
  token: { type: STRING, allowNull: false, unique: true },
  expires_at: { type: DATE, allowNull: false },
});
for (const [model, as] of [[Session, "sessions"], [Message, "messages"], [Recipient, "recipients"], [Token, "tokens"]]) {
  User.hasMany(model, { foreignKey: "user_id", as });
  model.belongsTo(User, { foreignKey: "user_id", as: "user" });
}
Session.hasMany(Message, { foreignKey: "session_id", as: "messages" });
Message.belongsTo(Session, { foreignKey: "session_id", as: "session" });

async function register() {
  const user = await User.create({ email, password_hash: hashSync(password, 4), name: "Dora Mill" });
  const session = await user.createSession({ client_id: "client-dora", phone_number: "491755550001", session_data: { wid: "dora" } });
  await user.createMessage({ session_id: session.id, to_phone: "491755550002", body: "Flour for Dora", status: "sent" });
  await user.createRecipient({ phone: "491755550002", name: "Bo Baker", email: "bo@bakery.example", tags: ["flour"], custom_fields: { city: "Mill" } });
  await user.createToken({ token: "b2c4".repeat(16), expires_at: new Date("2040-01-01") });
}

async function signIn() {
  const user = await User.findOne({ where: { email }, include: ["sessions", "messages", "recipients", "tokens"] });
  const accepted = user !== null && user.is_active && compareSync(password, user.password_hash);
  if (accepted) {
    await Promise.all([user.validate(), ...user.recipients.map((recipient) => recipient.validate())]);
    await user.update({ last_login_at: new Date() });
  }
  return { accepted, user, users: await User.count() };
}

sequelize.sync()
  .then(command === "register" ? register : signIn)
  .then((result) => console.log(JSON.stringify(result ?? {})))
  .then(() => sequelize.close());
