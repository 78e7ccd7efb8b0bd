// Asks a running server to classify one array of numbers, once by a call of its own and once on a stream.
//
//   npm install --no-package-lock
//   node infer.js [HOST:PORT] [MODEL] [INPUT] [FEATURES]
"use strict";

const path = require("path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [address = "127.0.0.1:8001", model = "digits", input = "image", features = "64"] = process.argv.slice(2);
const proto = path.join(__dirname, "../../clover_rl/serving/protocol/inference.proto");
const { inference } = grpc.loadPackageDefinition(loader.loadSync(proto, { keepCase: true, longs: Number }));
const client = new inference.GRPCInferenceService(address, grpc.credentials.createInsecure());

function request(size) {
  const numbers = new Float32Array(size).fill(0.5);
  return {
    model_name: model,
    id: `node-${size}`,
    inputs: [{ name: input, datatype: "FP32", shape: [1, size] }],
    raw_input_contents: [Buffer.from(numbers.buffer)],
  };
}

function scores(response) {
  const raw = response.raw_output_contents[0];
  return Array.from(new Float32Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.length)));
}

function told(response) {
  const { variant, instance } = response.parameters;
  return { id: response.id, variant: variant.string_param, instance: instance.string_param, scores: scores(response) };
}

const call = (method, message) =>
  new Promise((resolve) => {
    const deadline = new Date(Date.now() + 5000);
    client[method](message, { deadline }, (error, response) => resolve({ error, response }));
  });

async function main() {
  const size = Number(features);
  const found = {};
  found.ready = (await call("ServerReady", {})).response.ready;
  const answered = await call("ModelInfer", request(size));
  if (answered.error) throw answered.error;
  found.unary = told(answered.response);

  // A request that is wrong gets a status and one sentence.
  const refused = await call("ModelInfer", request(size + 1));
  found.refused = { code: grpc.status[refused.error.code], details: refused.error.details };

  // On a stream it gets the sentence, and the stream stays open.
  found.stream = await new Promise((resolve, reject) => {
    const answers = [];
    const stream = client.ModelStreamInfer();
    stream.on("data", ({ error_message, infer_response }) =>
      answers.push(error_message ? { id: infer_response.id, error: error_message } : told(infer_response)),
    );
    stream.on("error", reject);
    stream.on("end", () => resolve(answers));
    for (const each of [size, size + 1, size]) stream.write(request(each));
    stream.end();
  });
  console.log(JSON.stringify(found, null, 2));
}

main()
  .catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
  })
  .finally(() => client.close());
