// Sends image files as the frames of one camera: npm install @grpc/grpc-js @grpc/proto-loader; node camera.js FRAME...
// TTA_GRPC says where the server is, 127.0.0.1:8001 unless it is set.
const { readFileSync } = require('node:fs');
const { join } = require('node:path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const definition = loader.loadSync('tta/v1/adaptation.proto', { includeDirs: [join(__dirname, '../../protos')], keepCase: true, longs: Number, defaults: true, oneofs: true });
const { AdaptationService } = grpc.loadPackageDefinition(definition).tta.v1;
const client = new AdaptationService(process.env.TTA_GRPC ?? '127.0.0.1:8001', grpc.credentials.createInsecure());

const paths = process.argv.slice(2);
const call = client.StreamInfer();
let answered = 0;
call.on('data', reply => {
  if (reply.message === 'step') {
    const [best] = reply.step.predictions[0].top;
    console.log(`${paths[answered++]}: ${best.label} ${best.probability.toFixed(3)}, step ${reply.step.step}`);
  } else if (reply.message === 'error') {
    console.log(`${paths[answered++]}: ${reply.error.reason}: ${reply.error.message}`);
  }
});
call.on('error', ended => {
  console.error(`${ended.code}: ${ended.details}`);
  process.exitCode = 1;
});
call.on('end', () => client.close());

// The first message opens the stream, or goes on with it; every later one is a step.
call.write({ open: { stream: 'camera-js', model: 'fashion-mnist' } });
for (const path of paths) {
  call.write({ step: { frames: [{ encoded: readFileSync(path) }] } });
}
call.end();
