'use strict';

const http = require('node:http');
const { within } = require('../expect');

// fetch is one HTTP request by hand; the answer is {status, headers, text}.
function fetch({ host, port }, path, { method = 'GET', headers = {}, body, agent = false } = {}) {
  const answered = new Promise((resolve, reject) => {
    const request = http.request({ host, port, path, method, headers, agent }, (response) => {
      const pieces = [];
      response.on('data', (piece) => pieces.push(piece));
      response.on('error', reject);
      response.on('end', () => {
        const text = Buffer.concat(pieces).toString();
        resolve({ status: response.statusCode, headers: response.headers, text });
      });
    });
    request.on('error', reject);
    request.end(body);
  });
  return within(answered, `${method} ${path}`);
}

module.exports = { fetch };
