'use strict';

module.exports = (app) => new GateHandler(app);

class GateHandler {
  constructor(app) {
    this.app = app;
  }

  // queryEntry tells a client which connector to use.
  queryEntry(msg, session, next) {
    const { host, clientPort } = this.app.getServersByType('connector')[0];
    next(null, { code: 200, host, port: clientPort });
  }
}
