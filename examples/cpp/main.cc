// Embeds sentences, photos and speech, and compares them; survives bad items and restarts.
//
//   main [HOST:PORT [--pause]]
//
// With --pause it waits for Enter before the photos: time to restart the server.

#include <absl/status/status.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "vecserve/v1/embedding.grpc.pb.h"

namespace pb = vecserve::v1;
using namespace std::chrono_literals;
using Requests = std::map<std::string, pb::EmbedStreamRequest>;
using OnResult = std::function<void(const pb::ItemResult&)>;

constexpr int kTries = 15;
constexpr std::chrono::milliseconds kFirstDelay = 500ms;
constexpr std::chrono::milliseconds kMaxDelay = 5s;
const std::string kText = "all-MiniLM-L6-v2";
const std::string kImage = "clip-vit-base-patch32";
const std::string kAudio = "whisper-base";
const std::pair<std::string, std::string> kPairs[] = {
    {"reset-password", "forgot-login"},
    {"dog-dalmatian.jpg", "dog-mastiff.jpg"},
    {"austen-0880.flac", "austen-0890.flac"},
};

// Adds a message with one item, so that each can have its model and options.
pb::EmbedStreamRequest& Add(Requests& requests, const std::string& model, const std::string& id) {
  auto& request = requests[id];
  request.set_model(model);
  request.add_items()->set_item_id(id);
  return request;
}

void AddText(Requests& requests, const std::string& id, const std::string& text) {
  Add(requests, kText, id).mutable_items(0)->set_text(text);
}

std::string Read(const std::string& name) {
  std::ifstream file("../data/" + name, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read examples/data/" + name);
  return {std::istreambuf_iterator<char>(file), {}};
}

// Runs one stream. Removes from `waiting` what was answered; returns why anything was not.
grpc::Status Exchange(pb::EmbeddingService::Stub& client, Requests& waiting,
                      const OnResult& on_result) {
  grpc::ClientContext context;
  auto stream = client.EmbedStream(&context);
  std::thread sender([&stream, requests = waiting] {
    for (const auto& [id, request] : requests) {
      // Blocks while the server holds us back. After a failure, Finish says what it was.
      if (!stream->Write(request)) return;
    }
    stream->WritesDone();
  });
  grpc::Status reason(grpc::StatusCode::UNKNOWN, "the stream ended early");
  pb::EmbedStreamResponse response;
  while (stream->Read(&response)) {
    for (const auto& result : response.results()) {
      // In band, it means that the model is still being loaded.
      if (result.error().code() == grpc::StatusCode::UNAVAILABLE) {
        reason = {grpc::StatusCode::UNAVAILABLE, result.error().message()};
      } else {
        waiting.erase(result.item_id());
        on_result(result);
      }
    }
  }
  sender.join();
  const grpc::Status status = stream->Finish();
  return status.ok() ? reason : status;
}

// Streams the requests and calls on_result for each answered item, as it is ready. What has no
// answer is sent again while the server is away; embedding twice does no harm.
void Embed(pb::EmbeddingService::Stub& client, Requests waiting, const OnResult& on_result) {
  auto delay = kFirstDelay;
  for (int attempt = 1;; ++attempt) {
    const grpc::Status status = Exchange(client, waiting, on_result);
    if (waiting.empty()) return;
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE || attempt == kTries) {
      throw std::runtime_error(status.error_message());
    }
    std::cerr << "unavailable: " << status.error_message() << "; again in "
              << delay.count() / 1000.0 << " s" << std::endl;
    std::this_thread::sleep_for(delay);
    delay = std::min(2 * delay, kMaxDelay);
  }
}

// The numbers arrive as little-endian float32, which is what this machine has.
std::vector<float> VectorOf(const pb::ItemResult& result) {
  const std::string& data = result.embedding().vectors(0).data();
  std::vector<float> vector(data.size() / sizeof(float));
  std::memcpy(vector.data(), data.data(), data.size());
  return vector;
}

double Cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += double{a[i]} * b[i];
    aa += double{a[i]} * a[i];
    bb += double{b[i]} * b[i];
  }
  return ab / std::sqrt(aa * bb);
}

void Run(const std::string& address, bool pause) {
  const auto client = pb::EmbeddingService::NewStub(
      grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  std::map<std::string, std::vector<float>> vectors;
  const OnResult on_result = [&vectors](const pb::ItemResult& result) {
    if (result.has_error()) {
      const auto code = static_cast<absl::StatusCode>(result.error().code());
      std::cout << "error " << result.item_id() << " " << absl::StatusCodeToString(code) << " "
                << result.error().message() << std::endl;
      return;
    }
    const auto& vector = vectors[result.item_id()] = VectorOf(result);
    std::cout << "vector " << result.item_id() << " " << vector.size() << std::endl;
  };

  Requests sentences;
  AddText(sentences, "reset-password", "How do I reset my password?");
  AddText(sentences, "forgot-login", "I forgot my login details.");
  AddText(sentences, "late", "Too late.");
  sentences["late"].mutable_options()->mutable_timeout()->set_nanos(1000);
  Add(sentences, kImage, "broken.jpg").mutable_items(0)->set_image("not a JPEG");
  Embed(*client, sentences, on_result);
  if (pause) {
    std::cout << "press Enter to go on" << std::endl;
    std::cin.get();
  }
  Requests media;
  for (const std::string name : {"dog-dalmatian.jpg", "dog-mastiff.jpg"}) {
    Add(media, kImage, name).mutable_items(0)->set_image(Read("photos/" + name));
  }
  for (const std::string name : {"austen-0880.flac", "austen-0890.flac"}) {
    Add(media, kAudio, name).mutable_items(0)->set_audio(Read("speech/" + name));
  }
  Embed(*client, media, on_result);

  for (const auto& [a, b] : kPairs) {
    std::printf("similarity %s %s %.6f\n", a.c_str(), b.c_str(), Cosine(vectors[a], vectors[b]));
  }
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + 10s);
  pb::ListModelsResponse reply;
  const grpc::Status status = client->ListModels(&context, {}, &reply);
  if (!status.ok()) throw std::runtime_error(status.error_message());
  for (const auto& model : reply.models()) {
    const std::string& name = model.name();
    if (!model.trained() && (name == kText || name == kImage || name == kAudio)) {
      std::printf("untrained %s has random weights, its vectors mean nothing\n", name.c_str());
    }
  }
}

int main(int argc, char** argv) {
  try {
    Run(argc > 1 ? argv[1] : "127.0.0.1:8001", argc > 2 && std::string(argv[2]) == "--pause");
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << std::endl;
    return 1;
  }
}
