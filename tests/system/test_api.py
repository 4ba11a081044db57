"""Health and reflection answer; methods of later versions say so."""
import grpc
import pytest


def test_health_says_serving(server):
    # grpc.health.v1.HealthCheckResponse {status = 1: SERVING} is two bytes on the wire.
    channel = grpc.insecure_channel(server.address)
    check = channel.unary_unary("/grpc.health.v1.Health/Check", request_serializer=lambda request: request,
                                response_deserializer=lambda response: response)
    assert check(b"") == b"\x08\x01"


def test_reflection_lists_the_services(server):
    channel = grpc.insecure_channel(server.address)
    info = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                                 request_serializer=lambda request: request,
                                 response_deserializer=lambda response: response)
    (answer,) = list(info(iter([b"\x3a\x01*"])))  # list_services = 7
    for name in (b"tomoserve.v1.StudyService", b"tomoserve.v1.WorklistService", b"tomoserve.v1.ModelService"):
        assert name in answer


def test_later_methods_are_unimplemented(server, stubs):
    channel = grpc.insecure_channel(server.address)
    study = stubs.study_service_grpc.StudyServiceStub(channel)
    with pytest.raises(grpc.RpcError) as error:
        study.DeleteStudy(stubs.study_service.DeleteStudyRequest(study_instance_uid="1.2.3"))
    assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_cancel_of_an_unknown_study_is_not_found(server, stubs):
    study = stubs.study_service_grpc.StudyServiceStub(grpc.insecure_channel(server.address))
    with pytest.raises(grpc.RpcError) as error:
        study.CancelStudy(stubs.study_service.CancelStudyRequest(study_instance_uid="1.2.3"))
    assert error.value.code() == grpc.StatusCode.NOT_FOUND
