from tests.local.test_data_fetch import *
def test_dbg(s3_source):
    from trainer_app.storage import open_store
    print(list(open_store(s3_source).list("MNIST/raw")))
    s=sources.find(s3_source,"MNIST"); print(s.mark(), s.mark())
    assert 0
