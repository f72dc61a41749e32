// The part to copy: embeds through a stream, sends again what has no answer, and reads the vectors.
#pragma once

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <iostream>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "vecserve/v1/embedding.grpc.pb.h"

namespace vecserve {

using Requests = std::vector<v1::EmbedStreamRequest>;
using Results = std::map<std::string, v1::ItemResult>;  // by item id

// Runs one stream: adds its answers to `results`, and returns how it ended.
inline grpc::Status Exchange(v1::EmbeddingService::Stub& client, const Requests& waiting,
                             Results& results) {
  grpc::ClientContext context;
  auto stream = client.EmbedStream(&context);
  std::thread sender([&] {
    // Write blocks while the server holds us back. After a failure, Finish says what it was.
    for (const auto& request : waiting) stream->Write(request);
    stream->WritesDone();
  });
  v1::EmbedStreamResponse response;
  while (stream->Read(&response)) {
    for (const auto& result : response.results()) {
      // In band, it means that the model is still being loaded: not an answer yet.
      if (result.error().code() != grpc::UNAVAILABLE) results[result.item_id()] = result;
    }
  }
  sender.join();
  return stream->Finish();
}

// Answers all requests, each of one item. What has no answer is sent again while the server is away,
// for about a minute; embedding twice does no harm.
inline Results Embed(v1::EmbeddingService::Stub& client, Requests waiting) {
  Results results;
  const auto answered = [&results](const v1::EmbedStreamRequest& request) {
    return results.count(request.items(0).item_id()) > 0;
  };
  for (int attempt = 1;; ++attempt) {
    grpc::Status status = Exchange(client, waiting, results);
    waiting.erase(std::remove_if(waiting.begin(), waiting.end(), answered), waiting.end());
    if (waiting.empty()) return results;
    if (status.ok()) status = {grpc::UNAVAILABLE, "a model is being loaded"};
    if (status.error_code() != grpc::UNAVAILABLE || attempt == 15) {
      throw std::runtime_error(status.error_message());
    }
    const std::chrono::milliseconds pause(attempt * 500);
    std::cerr << "unavailable: " << status.error_message() << "; again in " << pause.count()
              << " ms" << std::endl;
    std::this_thread::sleep_for(pause);
  }
}

// The numbers arrive as little-endian float32, which is what this machine has.
inline std::vector<float> VectorOf(const v1::ItemResult& result) {
  const std::string& data = result.embedding().vectors(0).data();
  std::vector<float> vector(data.size() / sizeof(float));
  std::memcpy(vector.data(), data.data(), data.size());
  return vector;
}

}  // namespace vecserve
