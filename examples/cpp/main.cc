// Embeds sentences, photos and speech, and compares them; survives bad items and restarts.
// Usage: main HOST:PORT [--pause]; --pause waits for Enter before the photos.
#include <absl/status/status.h>
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>
#include <map>
#include <numeric>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "vecserve/v1/embedding.grpc.pb.h"

namespace pb = vecserve::v1;
using namespace std::chrono_literals;
using std::string;
using Requests = std::map<string, pb::EmbedStreamRequest>;  // by item id
using Results = std::map<string, pb::ItemResult>;
using Vector = std::vector<float>;

const string kText = "all-MiniLM-L6-v2", kImage = "clip-vit-base-patch32", kAudio = "whisper-base";

// Runs one stream: adds its answers to `results`, and returns how it ended.
grpc::Status Exchange(pb::EmbeddingService::Stub& client, const Requests& waiting,
                      Results& results) {
  grpc::ClientContext context;
  auto stream = client.EmbedStream(&context);
  std::thread sender([&] {
    // Write blocks while the server holds us back. After a failure, Finish says what it was.
    for (const auto& [id, request] : waiting) stream->Write(request);
    stream->WritesDone();
  });
  pb::EmbedStreamResponse response;
  while (stream->Read(&response)) {
    for (const auto& result : response.results()) {
      // In band, it means that the model is still being loaded: not an answer yet.
      if (result.error().code() != grpc::UNAVAILABLE) results[result.item_id()] = result;
    }
  }
  sender.join();
  return stream->Finish();
}

// Answers all requests. What has no answer is sent again while the server is away, for about a
// minute; embedding twice does no harm.
Results Embed(pb::EmbeddingService::Stub& client, Requests waiting) {
  Results results;
  for (int attempt = 1;; ++attempt) {
    grpc::Status status = Exchange(client, waiting, results);
    for (const auto& [id, result] : results) waiting.erase(id);
    if (waiting.empty()) return results;
    if (status.ok()) status = {grpc::UNAVAILABLE, "a model is being loaded"};
    if (status.error_code() != grpc::UNAVAILABLE || attempt == 15) {
      throw std::runtime_error(status.error_message());
    }
    const auto pause = attempt * 500ms;
    std::cerr << "unavailable: " << status.error_message() << "; again in " << pause.count()
              << " ms" << std::endl;
    std::this_thread::sleep_for(pause);
  }
}

// The numbers arrive as little-endian float32, which is what this machine has.
Vector VectorOf(const pb::ItemResult& result) {
  const string& data = result.embedding().vectors(0).data();
  Vector vector(data.size() / sizeof(float));
  std::memcpy(vector.data(), data.data(), data.size());
  return vector;
}

double Dot(const Vector& a, const Vector& b) {
  return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

// Makes a message of one item, so that each can have its model and options.
pb::Item& Add(Requests& requests, const string& model, const string& id) {
  requests[id].set_model(model);
  requests[id].add_items()->set_item_id(id);
  return *requests[id].mutable_items(0);
}

string Read(const string& name) {
  std::ifstream file("../data/" + name, std::ios::binary);
  if (!file) throw std::runtime_error("cannot read examples/data/" + name);
  return {std::istreambuf_iterator<char>(file), {}};
}

int main(int argc, char** argv) try {
  const auto client = pb::EmbeddingService::NewStub(
      grpc::CreateChannel(argv[1], grpc::InsecureChannelCredentials()));
  Requests sentences, media;
  Add(sentences, kText, "reset-password").set_text("How do I reset my password?");
  Add(sentences, kText, "forgot-login").set_text("I forgot my login details.");
  Add(sentences, kImage, "broken.jpg").set_image("not a JPEG");
  Add(sentences, kText, "late").set_text("Too late.");
  sentences["late"].mutable_options()->mutable_timeout()->set_nanos(1000);
  Add(media, kImage, "dog-dalmatian.jpg").set_image(Read("photos/dog-dalmatian.jpg"));
  Add(media, kImage, "dog-mastiff.jpg").set_image(Read("photos/dog-mastiff.jpg"));
  Add(media, kAudio, "austen-0880.flac").set_audio(Read("speech/austen-0880.flac"));
  Add(media, kAudio, "austen-0890.flac").set_audio(Read("speech/austen-0890.flac"));

  std::map<string, Vector> vectors;
  for (const Requests* round : {&sentences, &media}) {
    if (round == &media && argc > 2) {
      std::cout << "press Enter to go on" << std::endl;
      std::cin.get();
    }
    for (const auto& [id, result] : Embed(*client, *round)) {
      if (result.has_error()) {
        const auto code = static_cast<absl::StatusCode>(result.error().code());
        std::cout << "error " << id << " " << code << " " << result.error().message() << std::endl;
      } else {
        vectors[id] = VectorOf(result);
        std::cout << "vector " << id << " " << vectors[id].size() << std::endl;
      }
    }
  }
  const auto compare = [&vectors](const string& name, const string& other) {
    const Vector &a = vectors.at(name), &b = vectors.at(other);
    std::cout << "similarity " << name << " " << other << " " << std::fixed
              << Dot(a, b) / std::sqrt(Dot(a, a) * Dot(b, b)) << std::endl;
  };
  compare("reset-password", "forgot-login");
  compare("dog-dalmatian.jpg", "dog-mastiff.jpg");
  compare("austen-0880.flac", "austen-0890.flac");

  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + 10s);
  pb::ListModelsResponse reply;
  const grpc::Status status = client->ListModels(&context, {}, &reply);
  if (!status.ok()) throw std::runtime_error(status.error_message());
  for (const auto& model : reply.models()) {
    const string& name = model.name();
    if (!model.trained() && (name == kText || name == kImage || name == kAudio)) {
      std::cout << "untrained " << name << " has random weights, its vectors mean nothing\n";
    }
  }
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << std::endl;
  return 1;
}
